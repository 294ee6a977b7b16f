"""The way back from the trash of a bucket without versions: copies are copied back, and kept where that may be needed.

When that is, `relocating` says.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from quota.errors import CheckpointChanged, shown_paths
from quota_s3.claims import Claim, ClaimEntry, Place, advanced, keyed, unanswered
from quota_s3.copies import give_up, is_original, own_keys, require_copies
from quota_s3.copying import copy
from quota_s3.names import key_of
from quota_s3.objects import Item
from quota_s3.parallel import in_parallel
from quota_s3.records import Restored, write_record


def put_back(place: Place, prefix: str, subject: str, claim: Claim) -> bool:
    """Copy the checkpoint back to its place, replacing nothing; then delete the copies, and the claim.

    Both are kept where originals may still be deleted. Then calling this again copies back what has been since, unless
    anything at the place is another than was copied back.

    Returns:
        False where the trash did not hold all of it; what it held was only copies of what lies at its place.

    Raises:
        CheckpointChanged: something else lies there, or the trash holds something else.
        StoreError: the server refused or failed.
    """
    if claim.state == "begun":
        give_up(place, place.write(claim))
        return False
    if claim.state == "restored" and not claim.unanswered:
        give_up(place, claim)
        return True
    if claim.state == "restored" and not _is_still_taken_away(place, prefix, claim):
        return False
    if claim.state != "moved":
        claim = unanswered(claim)
    claim = _copied_back(place, prefix, subject, claim)
    if not claim.unanswered:
        give_up(place, claim)
    return True


def release(place: Place, claim: Claim) -> None:
    """Delete the copies that were kept, and the claim; nothing where they may be all that there is.

    Raises:
        StoreError: the server refused or failed.
    """
    if claim.state == "restored":
        give_up(place, claim)


def _is_still_taken_away(place: Place, prefix: str, claim: Claim) -> bool:
    """Tell whether something of what was copied back is gone, and nothing else has been written there since.

    Where that is placeholders alone, they are written anew at once.
    """
    entries = keyed(claim, prefix)
    present = {item.key: item for item in place.bucket.objects(prefix)}
    is_untouched = all(key in entries and _is_same(entries[key], item) for key, item in present.items())
    gone = [key for key in entries if key not in present]
    if not is_untouched or any(not entries[key].is_placeholder for key in gone):
        return is_untouched
    for key in gone:
        place.bucket.write(key, b"")
    return False


def _is_same(entry: ClaimEntry, item: Item) -> bool:
    return item.is_placeholder if entry.is_placeholder else entry.is_original(item)


def _copied_back(place: Place, prefix: str, subject: str, claim: Claim) -> Claim:
    entries = keyed(claim, prefix)
    present = {item.key: item for item in place.bucket.objects(prefix)}
    strangers = present.keys() - own_keys(place, prefix, claim, list(present.values()))
    if strangers:
        paths = shown_paths(key.removeprefix(prefix) for key in strangers)
        advice = "move that away, then restore again"
        raise CheckpointChanged(f"{subject}: something else lies there now: {paths}; the trash is kept; {advice}")
    if entries.keys() != present.keys():
        # Where nothing is missing no copy is needed, and a process that came too late may have left a claim without.
        require_copies(place, claim, whole=True)
    place.put_up_sign()
    claim = place.write(advanced(claim, "restoring"))
    _copy_out(place, prefix, subject, claim, present)
    present = {item.key: item for item in place.bucket.objects(prefix)}
    differing = sorted(entries.keys() ^ present.keys())
    differing += [
        key for key, entry in entries.items() if key in present and present[key].size_bytes != entry.size_bytes
    ]
    if differing:
        paths = shown_paths(key.removeprefix(prefix) for key in differing)
        raise CheckpointChanged(f"{subject}: it was written to while it was restored: {paths}; the trash is kept")
    _record_restored(place, prefix, claim, present)
    # What lies there now is what the kept copies are compared with.
    here = tuple(
        msgspec.structs.replace(entry, etag=present[key].etag, modified_at=present[key].modified_at)
        for key, entry in entries.items()
    )
    return place.write(advanced(claim, "restored", here))


def _copy_out(place: Place, prefix: str, subject: str, claim: Claim, present: Mapping[str, Item]) -> None:
    """Copy out of the trash what is not present; and over originals that may still be deleted, so that they are not."""
    entries = keyed(claim, prefix)

    def copy_out(key: str) -> None:
        entry = entries[key]
        over: str | None = None
        if key in present:
            item = place.bucket.look_at(key)
            # Asked of the server again with the copy: this process may be frozen before that, and a trial go on.
            over = None if item is None else item.etag
            if item is not None and not entry.is_original(item):
                raise CheckpointChanged(f"{subject}: it was written to while it was restored: {key}; the trash is kept")
        source = key_of(place.copies, entry.path)
        copy(place.bucket, source, key, entry.held_etag, entry.size_bytes, over=over)

    missing = [key for key in entries if key not in present]
    over: list[str] = []
    if claim.unanswered:
        held = {item.key for item in place.bucket.objects(place.copies)}
        over = [key for key in entries.keys() & present.keys() if is_original(entries, present[key])]
        over = [key for key in over if key_of(place.copies, entries[key].path) in held]
    in_parallel(copy_out, [key for key in [*missing, *over] if not entries[key].is_placeholder])
    # A server that keeps folders makes one itself when the first file in it is written, and may put its own in place of
    # a placeholder that is written at the same moment: the placeholders wait until every file is there.
    for key in missing:
        if entries[key].is_placeholder:
            place.bucket.write(key, b"")


def _record_restored(place: Place, prefix: str, claim: Claim, present: Mapping[str, Item]) -> None:
    restored = tuple(
        Restored(
            path=entry.path,
            etag=present[key].etag,
            modified_at=present[key].modified_at,
            version=entry.version,
            written_at=entry.written_at,
            is_kept=claim.unanswered,
        )
        for key, entry in keyed(claim, prefix).items()
    )
    write_record(place.root, place.bucket, prefix, restored)
