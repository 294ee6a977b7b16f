"""What a claim in a bucket without versions is on: its originals, their copies in the trash, and copies back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from quota.errors import CheckpointChanged, StoreError, shown_paths
from quota_s3.claims import Claim, ClaimEntry, Place, keyed
from quota_s3.comparing import have_same_content
from quota_s3.deleting import erase
from quota_s3.names import key_of
from quota_s3.objects import Item
from quota_s3.parallel import in_parallel
from quota_s3.uploads import abort_uploads


def is_original(entries: Mapping[str, ClaimEntry], item: Item) -> bool:
    """Tell whether an object is one of a claim's originals."""
    entry = entries.get(item.key)
    return entry is not None and entry.is_original(item)


def own_keys(place: Place, prefix: str, claim: Claim, present: Sequence[Item]) -> set[str]:
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


def require_copies(place: Place, claim: Claim, *, whole: bool) -> None:
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


def give_up(place: Place, claim: Claim) -> None:
    """Delete the copies, finished or not, and the claim.

    Raises:
        StoreError: another process has taken the claim up, so that it may need them; or the server refused or failed.
    """
    place.require_untaken()
    abort_uploads(place.bucket, place.copies)
    erase(place.bucket, place.copies, keyed(claim, place.copies))
    place.forget()
