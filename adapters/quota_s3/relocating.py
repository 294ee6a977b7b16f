"""The trash of a bucket without versions: copies below the claim, made before any original is deleted.

Until the claim says that all is copied, nothing is deleted at the checkpoint's place; from then on an original is
deleted only if it is still the one that was copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec

from quota.domain.manifest import Manifest
from quota.errors import CheckpointChanged, StoreError, shown_paths
from quota.ports import require_same
from quota_s3.claims import Claim, ClaimEntry, Place, advanced, differing_paths, keyed
from quota_s3.comparing import have_same_content
from quota_s3.copying import copy
from quota_s3.deleting import erase
from quota_s3.listing import manifest_of
from quota_s3.names import key_of, path_of
from quota_s3.objects import Item
from quota_s3.parallel import in_parallel
from quota_s3.records import Restored, erase_record, read_record, write_record
from quota_s3.uploads import abort_older_uploads, abort_uploads


def begin(place: Place, prefix: str, subject: str, uri: str, manifest: Manifest) -> Claim:
    """Check that what lies at `prefix` is what `manifest` names, and put the claim into the trash.

    Raises:
        CheckpointGone: there is nothing.
        CheckpointChanged: there is something else.
        PathRefused: there is something that no checkpoint may hold.
        StoreError: the server refused or failed.
    """
    record = read_record(place.root, place.bucket, prefix)
    items = list(place.bucket.objects(prefix))
    require_same(subject, manifest_of(subject, prefix, items, record), manifest)
    entries: list[ClaimEntry] = []
    for item in items:
        path = path_of(subject, prefix, item.key)
        entries.append(
            ClaimEntry(
                path=path,
                size_bytes=item.size_bytes,
                version=record.version(path, item),
                etag=item.etag,
                modified_at=item.modified_at,
                written_at=record.written_at(path, item),
            )
        )
    return place.write(Claim(uri=uri, kind="copies", state="begun", entries=tuple(entries)))


def relocate(place: Place, prefix: str, subject: str, claim: Claim) -> Claim:
    """Copy what the claim is on into the trash, then delete the originals; go on where an earlier call was cut off.

    Raises:
        CheckpointChanged: something else lies there; the copies were deleted again, and the claim. Or, after a crash,
            the trash holds something else; nothing more was deleted.
        StoreError: the server refused or failed; so they were, if nothing was deleted yet and that could be done.
    """
    if claim.state == "begun":
        try:
            claim = _copied(place, prefix, subject, claim)
        except StoreError:
            # Where not even that can be done, the claim stays as begun: the next call finishes or undoes it.
            with suppress(StoreError):
                give_up(place, claim)
            raise
        place.write(claim)
    _require_copies(place, claim, whole=True)
    return _originals_deleted(place, prefix, claim)


def give_up(place: Place, claim: Claim) -> None:
    """Delete the copies, finished or not, and the claim.

    Raises:
        StoreError: the server refused or failed.
    """
    abort_uploads(place.bucket, place.copies)
    erase(place.bucket, place.copies, keyed(claim, place.copies))
    place.forget()


def _copied(place: Place, prefix: str, subject: str, claim: Claim) -> Claim:
    _require_originals(place, prefix, subject, claim)
    with_content = [entry for entry in claim.entries if not entry.is_placeholder]

    def copy_in(entry: ClaimEntry) -> None:
        source, target = key_of(prefix, entry.path), key_of(place.copies, entry.path)
        copy(place.bucket, source, target, entry.etag, entry.size_bytes, replace=True)

    in_parallel(copy_in, with_content)
    held = {item.key: item for item in place.bucket.objects(place.copies)}
    entries: list[ClaimEntry] = []
    for entry in claim.entries:
        item = held.pop(key_of(place.copies, entry.path), None)
        if entry.is_placeholder:
            entries.append(entry)
        elif item is None or item.size_bytes != entry.size_bytes:
            raise StoreError(
                f"{place.subject}: the server's copy of {shown_paths([entry.path])} is not whole; try again"
            )
        else:
            entries.append(msgspec.structs.replace(entry, held_etag=item.etag, held_modified_at=item.modified_at))
    if held:
        raise StoreError(f"{place.subject}: something else lies among the copies: {shown_paths(held)}; remove it")
    _require_originals(place, prefix, subject, claim)
    return advanced(claim, "copied", tuple(entries))


def _require_originals(place: Place, prefix: str, subject: str, claim: Claim) -> None:
    entries = keyed(claim, prefix)
    present = {item.key: item for item in place.bucket.objects(prefix)}
    differing = set(entries.keys() ^ present.keys())
    differing |= {key for key in entries.keys() & present.keys() if not entries[key].is_original(present[key])}
    if differing:
        paths = shown_paths(key.removeprefix(prefix) for key in differing)
        raise CheckpointChanged(f"{subject}: it changed since its eviction was decided: {paths}; it is left there")


def _originals_deleted(place: Place, prefix: str, claim: Claim) -> Claim:
    """Delete what lies at the checkpoint's place and is the claim's own; whatever else lies there is a later one's."""
    present = list(place.bucket.objects(prefix))
    if claim.state == "restoring":
        # Only a restore that was cut off has put copies there; else equal content is a later checkpoint's. It may be
        # one here, too, where anything else lies beside it, for what a tuner writes anew is often equal in part: then
        # all of it stays.
        own = present if len(_own(place, prefix, claim, present)) == len(present) else []
    else:
        entries = keyed(claim, prefix)
        own = [item for item in present if _is_original(entries, item)]
    in_parallel(place.bucket.delete_if_same, own)
    erase_record(place.root, place.bucket, prefix)
    return place.write(advanced(claim, "moved"))


def _is_original(entries: Mapping[str, ClaimEntry], item: Item) -> bool:
    entry = entries.get(item.key)
    return entry is not None and entry.is_original(item)


def _own(place: Place, prefix: str, claim: Claim, present: Sequence[Item]) -> set[str]:
    """Return the keys of what is an original, or has the content of the trash's copy of it.

    A restore that was cut off may have copied what has another ETag than its copy in the trash: under some kinds of
    encryption no two objects have the same. Nothing but its content tells then what it is.
    """
    entries = keyed(claim, prefix)
    own = {item.key for item in present if _is_own(entries, item)}
    if claim.state != "restoring":
        return own

    def is_copy(item: Item) -> bool:
        entry = entries[item.key]
        held_key = key_of(place.copies, entry.path)
        held = replace(item, key=held_key, etag=entry.held_etag)
        return have_same_content(place.bucket, item, held)

    unsure = [item for item in present if item.key not in own and _may_be_copy(entries, item)]
    copies = in_parallel(is_copy, unsure)
    return own | {item.key for item, is_same in zip(unsure, copies, strict=True) if is_same}


def _may_be_copy(entries: Mapping[str, ClaimEntry], item: Item) -> bool:
    entry = entries.get(item.key)
    return entry is not None and not entry.is_placeholder and item.size_bytes == entry.size_bytes


def _is_own(entries: Mapping[str, ClaimEntry], item: Item) -> bool:
    """Tell whether `item` is an original, or has the ETag of the trash's copy of it."""
    entry = entries.get(item.key)
    if entry is None:
        return False
    if entry.is_placeholder:
        return item.is_placeholder
    return entry.is_original(item) or (item.size_bytes == entry.size_bytes and item.etag == entry.held_etag)


def put_back(place: Place, prefix: str, subject: str, claim: Claim) -> bool:
    """Copy the checkpoint back to its place, replacing nothing; then delete the copies, and the claim.

    Returns:
        False where the trash did not hold all of it; what it held was only copies of what lies at its place.

    Raises:
        CheckpointChanged: something else lies there, or the trash holds something else.
        StoreError: the server refused or failed.
    """
    if claim.state == "begun":
        give_up(place, claim)
        return False
    if claim.state != "restored":
        claim = _copied_back(place, prefix, subject, claim)
    give_up(place, claim)
    return True


def _copied_back(place: Place, prefix: str, subject: str, claim: Claim) -> Claim:
    _require_copies(place, claim, whole=True)
    entries = keyed(claim, prefix)
    present = {item.key: item for item in place.bucket.objects(prefix)}
    strangers = present.keys() - _own(place, prefix, claim, list(present.values()))
    if strangers:
        paths = shown_paths(key.removeprefix(prefix) for key in strangers)
        advice = "move that away, then restore again"
        raise CheckpointChanged(f"{subject}: something else lies there now: {paths}; the trash is kept; {advice}")
    claim = place.write(advanced(claim, "restoring"))

    def copy_out(key: str) -> None:
        entry = entries[key]
        source = key_of(place.copies, entry.path)
        copy(place.bucket, source, key, entry.held_etag, entry.size_bytes, replace=False)

    missing = [key for key in entries if key not in present]
    in_parallel(copy_out, [key for key in missing if not entries[key].is_placeholder])
    # A server that keeps folders makes one itself when the first file in it is written, and may put its own in place of
    # a placeholder that is written at the same moment: the placeholders wait until every file is there.
    for key in missing:
        if entries[key].is_placeholder:
            place.bucket.write(key, b"")
    present = {item.key: item for item in place.bucket.objects(prefix)}
    differing = sorted(entries.keys() ^ present.keys())
    differing += [
        key for key, entry in entries.items() if key in present and present[key].size_bytes != entry.size_bytes
    ]
    if differing:
        paths = shown_paths(key.removeprefix(prefix) for key in differing)
        raise CheckpointChanged(f"{subject}: it was written to while it was restored: {paths}; the trash is kept")
    write_record(
        place.root,
        place.bucket,
        prefix,
        tuple(
            Restored(
                path=entry.path,
                etag=present[key].etag,
                modified_at=present[key].modified_at,
                version=entry.version,
                written_at=entry.written_at,
            )
            for key, entry in entries.items()
        ),
    )
    return place.write(advanced(claim, "restored"))


def purge(place: Place, prefix: str, claim: Claim, manifest: Manifest) -> None:
    """Delete the copies for good, then the claim. What lies at the checkpoint's place is left alone.

    What was still being uploaded there before the checkpoint was complete goes as well (see `abort_older_uploads`).

    Raises:
        CheckpointChanged: the trash holds something that `manifest` does not name.
        StoreError: the server refused or failed part of the way.
    """
    require_purgeable(place, prefix, claim, manifest)
    if _is_at_its_place(claim):
        give_up(place, claim)
        return
    if claim.state != "moved":
        _originals_deleted(place, prefix, claim)
    abort_older_uploads(place.bucket, prefix, claim)
    give_up(place, claim)


def require_purgeable(place: Place, _prefix: str, claim: Claim, manifest: Manifest) -> None:
    """Check that the trash holds nothing but what `manifest` names.

    Raises:
        CheckpointChanged: it does.
    """
    if _is_at_its_place(claim):
        return
    differing = differing_paths(claim, manifest)
    if differing:
        raise CheckpointChanged(f"{place.subject} holds what its manifest does not name: {shown_paths(differing)}")
    _require_copies(place, claim, whole=False)


def _is_at_its_place(claim: Claim) -> bool:
    """Tell whether what the manifest names lies at its place, and the trash has at most copies of it."""
    return claim.state in {"begun", "restored"}


def _require_copies(place: Place, claim: Claim, *, whole: bool) -> None:
    """Check that the trash holds nothing but the claim's copies; with `whole`, all of them."""
    entries = keyed(claim, place.copies)
    held = {item.key: item for item in place.bucket.objects(place.copies)}
    wrong = [key for key, item in held.items() if key not in entries or not _is_held(entries[key], item)]
    if wrong:
        paths = shown_paths(key.removeprefix(place.copies) for key in wrong)
        raise CheckpointChanged(
            f"{place.subject} holds what its manifest does not name: {paths}; it is kept: look at it"
        )
    lost = [entry.path for key, entry in entries.items() if key not in held and not entry.is_placeholder]
    if whole and lost:
        reason = "some of its copies are gone; did a lifecycle rule or somebody delete them?"
        raise StoreError(f"{place.subject}: {reason} {shown_paths(lost)}; it cannot be restored whole")


def _is_held(entry: ClaimEntry, item: Item) -> bool:
    if entry.held_modified_at is None:
        return False
    return item.size_bytes == entry.size_bytes and item.is_of(entry.held_etag, entry.held_modified_at)
