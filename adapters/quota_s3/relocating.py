"""The trash of a bucket without versions: copies below the claim, made before any original is deleted.

Until the claim says that all is copied, nothing is deleted at the checkpoint's place; from then on an original is
deleted only if it is still the one that was copied.

A process that deletes originals may be frozen, and go on when the checkpoint was given back meanwhile; a server may
carry out a request that nobody waits for any more. Few servers compare what they delete, and a copy back has the
original's ETag. So where that can be, what is left of the originals is written anew, for whoever goes on looks at the
time of each; and the copies are kept after they were copied back: what is deleted all the same is copied back again.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from quota.domain.manifest import Manifest
from quota.errors import CheckpointChanged, QuotaError, StoreError, shown_paths
from quota.ports import require_same
from quota_s3.claims import Claim, ClaimEntry, Place, advanced, differing_paths, keyed, manifest_entries, unanswered
from quota_s3.copies import give_up, is_original, own_keys, require_copies
from quota_s3.copying import ANYTHING, copy
from quota_s3.listing import manifest_of
from quota_s3.names import key_of, path_of
from quota_s3.parallel import in_parallel
from quota_s3.records import erase_record, read_record
from quota_s3.uploads import abort_older_uploads


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
            place.require_untaken()
        except QuotaError:
            # Where not even that can be done, or may be no longer, the claim stays as it is: whoever has taken it up
            # may have deleted the originals by now, and else the next call finishes or undoes it.
            with suppress(QuotaError):
                give_up(place, claim)
            raise
        place.write(claim)
    require_copies(place, claim, whole=True)
    return _originals_deleted(place, prefix, claim)


def _copied(place: Place, prefix: str, subject: str, claim: Claim) -> Claim:
    _require_originals(place, prefix, subject, claim)
    with_content = [entry for entry in claim.entries if not entry.is_placeholder]

    def copy_in(entry: ClaimEntry) -> None:
        source, target = key_of(prefix, entry.path), key_of(place.copies, entry.path)
        copy(place.bucket, source, target, entry.etag, entry.size_bytes, over=ANYTHING)

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
        own = present if len(own_keys(place, prefix, claim, present)) == len(present) else []
    else:
        entries = keyed(claim, prefix)
        own = [item for item in present if is_original(entries, item)]
    if any(in_parallel(place.bucket.delete_if_same, own)):
        claim = unanswered(claim)
    # Frozen among the deletions, this process may find it given back by now, and the record is that restore's.
    place.require_untaken()
    erase_record(place.root, place.bucket, prefix)
    return place.write(advanced(claim, "moved"))


def taken_again(place: Place, prefix: str, subject: str, claim: Claim, manifest: Manifest) -> Claim:
    """Return a claim that was undone, and whose copies were kept, so that `relocate` goes on with it.

    Raises:
        CheckpointGone: there is nothing at the checkpoint's place.
        CheckpointChanged: there is something else.
        PathRefused: there is something that no checkpoint may hold.
        StoreError: the server refused or failed.
    """
    record = read_record(place.root, place.bucket, prefix)
    present = manifest_of(subject, prefix, list(place.bucket.objects(prefix)), record)
    require_same(subject, present, manifest)
    if set(manifest_entries(claim)) != set(manifest.entries):
        raise CheckpointChanged(f"{subject}: it is not what was restored; {place.subject} has copies of that")
    require_copies(place, claim, whole=True)
    return place.write(advanced(claim, "copied"))


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
    require_copies(place, claim, whole=False)


def _is_at_its_place(claim: Claim) -> bool:
    """Tell whether what the manifest names lies at its place, and the trash has at most copies of it."""
    return claim.state in {"begun", "restored"}
