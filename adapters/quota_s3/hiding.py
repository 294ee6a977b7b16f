"""The trash of a bucket that keeps versions: delete markers hide the checkpoint, and its versions stay until a purge.

Delete markers free nothing. Each is put onto a key, not onto a version, so what a marker has hidden is looked at
afterwards; if that is something else, the marker is taken away again.

A marker that was asked for may be put when nobody waits for it any more. So where that can be, the claim is kept after
it was undone, and tells then whose the marker is.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from quota.domain.manifest import Manifest
from quota.errors import CheckpointChanged, QuotaError, StoreError, shown_paths
from quota.ports import require_same
from quota_s3.bucket import Bucket, Versioning
from quota_s3.claims import Claim, ClaimEntry, Place, advanced, differing_paths, taken_up, unanswered
from quota_s3.deleting import Markers, Target, delete
from quota_s3.listing import manifest_of
from quota_s3.names import path_of
from quota_s3.objects import NULL, visible_of
from quota_s3.records import Record
from quota_s3.sights import NEVER, Sight, View, look, noting
from quota_s3.uploads import abort_older_uploads


def require_hiding(bucket: Bucket, versioning: Versioning) -> None:
    """Check that a bucket whose versioning is as given hides what is deleted by its key.

    Raises:
        StoreError: it destroys what is deleted, or at least what was written before it kept versions.
    """
    if versioning == "Enabled":
        return
    state = "suspended" if versioning == "Suspended" else "off"
    reason = f"its versioning is {state}, so a delete would destroy what lies there instead of hiding it"
    raise StoreError(f"bucket {bucket.name}: {reason}; enable versioning again")


def begin(place: Place, prefix: str, subject: str, uri: str, manifest: Manifest) -> Claim:
    """Check that what lies at `prefix` is what `manifest` names, and put the claim into the trash.

    Raises:
        CheckpointGone: there is nothing.
        CheckpointChanged: there is something else.
        PathRefused: there is something that no checkpoint may hold.
        StoreError: the server refused or failed.
    """
    histories = place.bucket.histories(prefix)
    items = visible_of(histories.values())
    present = manifest_of(subject, prefix, items, Record())
    require_same(subject, present, manifest)
    entries = tuple(
        ClaimEntry(
            path=path_of(subject, prefix, item.key),
            size_bytes=item.size_bytes,
            version=item.version,
            etag=item.etag,
            modified_at=item.modified_at,
            written_at=item.modified_at,
            older_markers=tuple(histories[item.key].markers),
        )
        for item in items
    )
    claim = place.write(Claim(uri=uri, kind="markers", state="begun", entries=entries))
    # Nothing is hidden yet. What is stored does not say so, or whoever finds it after a crash would believe it.
    return advanced(claim, "begun", tuple(msgspec.structs.replace(entry, markers=()) for entry in claim.entries))


def hide(place: Place, prefix: str, subject: str, claim: Claim) -> Claim:
    """Put delete markers onto what the claim is on, as far as it has none yet, and record that it is moved.

    Raises:
        CheckpointChanged: something else lies there; all of our markers were taken away again, and the claim too.
        StoreError: the server refused or failed, or a delete would no longer hide anything; so they were, if that could
            be done.
    """
    put: Markers = {}
    try:
        view = look(place, prefix, claim)
        if not all(sight.is_moved for sight in view.sights):
            view = _hidden(place, prefix, subject, claim, view, put)
    except QuotaError:
        # Where not even that can be done, or may be no longer, the claim stays as it is: whoever has taken it up relies
        # on what is hidden, and else the next call finishes or undoes it.
        with suppress(QuotaError):
            place.require_untaken()
            _uncover(place, look(place, prefix, claim, put))
            _end(place, unanswered(claim) if None in put.values() else claim)
        raise
    if None in put.values():
        claim = unanswered(claim)
    entries = tuple(msgspec.structs.replace(sight.entry, markers=sight.own_markers) for sight in view.sights)
    return place.write(_unnoted(advanced(claim, "moved", entries)))


def _unnoted(claim: Claim) -> Claim:
    """Return the claim without what is known of its markers, if others of its own may be put."""
    if not claim.unanswered:
        return claim
    return advanced(claim, claim.state, tuple(msgspec.structs.replace(entry, markers=None) for entry in claim.entries))


def _end(place: Place, claim: Claim) -> None:
    """Forget a claim that was undone; keep it where markers of its own may still be put."""
    if claim.unanswered:
        place.write(_unnoted(advanced(claim, "begun")))
    else:
        place.require_untaken()
        place.forget()


def _hidden(place: Place, prefix: str, subject: str, claim: Claim, view: View, put: Markers) -> View:
    """Put delete markers onto what has none, note them in `put`, and look what they have hidden."""
    _require_ours(subject, view)
    todo = [sight for sight in view.sights if not sight.is_hidden]
    if any(sight.entry.markers for sight in todo):
        # Those that an earlier move has put are gone. After a crash they must not count for all that are ours.
        place.write(noting(claim, prefix, dict.fromkeys(sight.key for sight in todo)))
    # Asked anew, right before: the claim may have begun days ago.
    require_hiding(place.bucket, place.bucket.versioning())
    delete(place.bucket, [Target(sight.key) for sight in todo], put)
    view = look(place, prefix, claim, put)
    _require_ours(subject, view)
    if len(view.hidden) != len(view.sights):
        left = shown_paths(sight.entry.path for sight in view.sights if not sight.is_hidden)
        raise StoreError(f"{subject}: the server hides some keys not, though it said so: {left}; look at them")
    return view


def _require_ours(subject: str, view: View) -> None:
    other = [sight.entry.path for sight in view.sights if not (sight.is_visible or sight.is_hidden)]
    differing = [*other, *view.strangers]
    if differing:
        paths = shown_paths(differing)
        raise CheckpointChanged(f"{subject}: it changed while it was moved into the trash: {paths}; it is left there")


def _uncover(place: Place, view: View) -> None:
    """Take away the claim's own delete markers, and write anew the placeholders that are gone.

    A marker that somebody else has put stays, as far as the two can be told apart: whoever deletes a part of the
    checkpoint has no use for it. After a crash they cannot. Then all that were added go, which loses nothing.
    """
    _delete_own_markers(place, view)
    for sight in view.sights:
        if sight.entry.is_placeholder and not sight.history.versions:
            place.bucket.write(sight.key, b"")


def _give_up(place: Place, view: View) -> None:
    """Forget a claim that hides nothing of what it is on; its markers may hide what was written in the same moment."""
    place.require_untaken()
    _delete_own_markers(place, view)
    place.forget()


def _delete_own_markers(place: Place, view: View) -> None:
    delete(place.bucket, [Target(sight.key, marker) for sight in view.sights for marker in sight.own_markers])


def _hides_nothing(view: View) -> bool:
    """Tell whether a claim hides nothing that it is on, or only placeholders of what was written anew since."""
    if any(not (sight.is_visible or sight.is_hidden) for sight in view.sights):
        return all(sight.entry.is_placeholder for sight in view.hidden)
    return not view.hidden


def is_partly_hidden(place: Place, prefix: str, claim: Claim) -> bool:
    """Tell whether the trash holds anything of a claim that has begun.

    Raises:
        StoreError: the server refused or failed.
    """
    return bool(look(place, prefix, claim).hidden)


def uncover(place: Place, prefix: str, subject: str, claim: Claim) -> bool:
    """Take away the delete markers, so that the checkpoint lies at its place again; then the claim.

    Returns:
        False where nothing of it was hidden.

    Raises:
        CheckpointChanged: something else lies there, or somebody else has deleted it too.
        StoreError: the server refused or failed, or a version is gone.
    """
    is_kept = claim.state == "begun" and claim.unanswered
    if claim.state == "begun":
        claim = _unnoted(taken_up(claim))
    view = look(place, prefix, claim)
    if claim.state == "begun" and _hides_nothing(view):
        _delete_own_markers(place, view)
        # Where a trial has written over what a restore that was cut off has brought to light, the purge needs it.
        is_done_with = claim.unanswered or all(sight.is_visible for sight in view.sights)
        if is_done_with and not is_kept:
            _end(place, claim)
        return False
    _require_restorable(subject, view)
    # From here on a part of it may be visible: no longer is it in the trash as a whole.
    place.put_up_sign()
    claim = place.write(advanced(claim, "begun"))
    _uncover(place, view)
    view = look(place, prefix, claim)
    unseen = [sight.entry.path for sight in view.sights if not sight.is_visible]
    if unseen or view.strangers:
        paths = shown_paths([*unseen, *view.strangers])
        raise CheckpointChanged(f"{subject}: it was written to while it was restored: {paths}; look at its versions")
    if not claim.unanswered:
        place.require_untaken()
        place.forget()
    return True


def release(place: Place, claim: Claim) -> None:
    """Forget a claim that was kept after it was undone. What hides anything by now may be a later claim's, and stays.

    Raises:
        StoreError: the server refused or failed.
    """
    if claim.state == "begun" and claim.unanswered:
        place.require_untaken()
        place.forget()


def _require_restorable(subject: str, view: View) -> None:
    covered = [
        sight.entry.path for sight in view.sights if not (sight.is_visible or sight.is_hidden) and sight.is_there
    ]
    if view.strangers or covered:
        paths = shown_paths([*view.strangers, *covered])
        advice = "move that away with its versions, then restore again"
        raise CheckpointChanged(
            f"{subject}: something else was written there since: {paths}; the trash is kept; {advice}"
        )
    lost = [sight.entry.path for sight in view.sights if not (sight.is_visible or sight.is_hidden)]
    if lost:
        reason = "the versions of some keys are gone; did a lifecycle rule or somebody delete them?"
        raise StoreError(f"{subject}: {reason} {shown_paths(lost)}; it cannot be restored whole; the trash is kept")
    strange = [sight.entry.path for sight in view.sights if sight.own_markers != sight.added_markers]
    if strange:
        reason = "somebody else has deleted it too; remove the delete markers that are theirs, then restore again"
        raise CheckpointChanged(f"{subject}: {reason}: {shown_paths(strange)}; the trash is kept")


def purge(place: Place, prefix: str, claim: Claim, manifest: Manifest) -> None:
    """Delete the versions that the claim is on for good, then the markers that hid them, then the claim.

    A marker below which an older version lies stays, or that version would come to light. What was still being uploaded
    before the checkpoint was complete goes as well (see `abort_older_uploads`).

    Raises:
        CheckpointChanged: the claim is on something that `manifest` does not name, or readers see what it is on.
        StoreError: the server refused or failed part of the way.
    """
    _require_manifest(place, claim, manifest)
    if claim.state == "begun":
        view = look(place, prefix, claim)
        if all(sight.is_visible for sight in view.sights):
            _give_up(place, view)
            return
        if not view.strangers and all(sight.is_visible or sight.is_hidden for sight in view.sights):
            claim = hide(place, prefix, place.subject, claim)
    _delete_for_good(place, prefix, _unseen(place, prefix, claim))
    abort_older_uploads(place.bucket, prefix, claim)
    place.forget()


def require_purgeable(place: Place, prefix: str, claim: Claim, manifest: Manifest) -> None:
    """Check that the claim is on nothing but what `manifest` names, and that readers see none of it.

    Raises:
        CheckpointChanged: one of the two is not so.
    """
    _require_manifest(place, claim, manifest)
    if claim.state != "begun":
        _unseen(place, prefix, claim)


def _require_manifest(place: Place, claim: Claim, manifest: Manifest) -> None:
    differing = differing_paths(claim, manifest)
    if differing:
        raise CheckpointChanged(f"{place.subject} holds what its manifest does not name: {shown_paths(differing)}")


def _unseen(place: Place, prefix: str, claim: Claim) -> tuple[Sight, ...]:
    """Return what the claim is on, provided that readers see none of it."""
    view = look(place, prefix, claim)
    # A placeholder is like any other: one that is seen now is a later checkpoint's.
    sights = tuple(sight for sight in view.sights if not (sight.entry.is_placeholder and sight.is_visible))
    seen = [sight.entry.path for sight in sights if sight.is_visible]
    if seen:
        reason = "somebody has brought back what it holds"
        advice = "restore the rest, or remove the object that stands for the claim"
        raise CheckpointChanged(f"{place.subject}: {reason}: {shown_paths(seen)}; it is kept; {advice}")
    return sights


def _require_unchanging(bucket: Bucket) -> None:
    """Check that nothing new is written under the version id `null`."""
    if bucket.versioning() != "Enabled":
        reason = "its versioning is suspended, and what is written meanwhile could have the version id that is purged"
        raise StoreError(f"bucket {bucket.name}: {reason}; enable versioning again")


def _delete_for_good(place: Place, prefix: str, sights: tuple[Sight, ...]) -> None:
    versions: list[Target] = []
    for sight in sights:
        item = sight.history.having(sight.entry.version)
        if item is not None:
            versions.append(Target(sight.key, item.version_id))
    if any(version.version_id == NULL for version in versions):
        _require_unchanging(place.bucket)
    delete(place.bucket, versions)
    histories = place.bucket.histories(prefix)
    left = [sight for sight in sights if histories.get(sight.key, NEVER).having(sight.entry.version) is not None]
    if left:
        paths = shown_paths(sight.entry.path for sight in left)
        raise StoreError(f"{place.subject}: the server deleted some versions not, though it said so: {paths}")
    markers: list[Target] = []
    for sight in sights:
        present = set(histories.get(sight.key, NEVER).markers)
        others = histories.get(sight.key, NEVER).versions
        # After a crash it can no longer be told whether what is left is older or newer: then the marker stays.
        keeps = sight.has_older_versions if sight.is_there else bool(others)
        if not keeps:
            markers.extend(Target(sight.key, marker) for marker in sight.own_markers if marker in present)
    delete(place.bucket, markers)
