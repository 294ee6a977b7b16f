"""The store: what the port promises, in a bucket."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from uuid import uuid4

from quota.domain.manifest import Manifest
from quota.domain.reconciliation import StoredItem
from quota.errors import CheckpointGone, LeaseLost, StoreError, shown_paths
from quota.ports import Marks
from quota_s3 import bringing_back, hiding, relocating
from quota_s3.bucket import Bucket
from quota_s3.claims import RESTORING, Claim, Place, manifest_entries, taken_up, unanswered
from quota_s3.clients import make_client
from quota_s3.fencing import fenced, freely
from quota_s3.listing import manifest_of
from quota_s3.marking import read_mark, read_marks, write_mark
from quota_s3.objects import visible_of
from quota_s3.records import Record, read_record
from quota_s3.roots import Root, is_claim_id
from quota_s3.settings import BucketSettings
from quota_s3.usable import require_usable


def open_store(root_uri: str) -> S3Store:
    """Open the store whose root is the prefix that `root_uri` names, e.g. `s3://bucket/hpo/`.

    How the bucket is reached is said by `QUOTA_S3_*` variables (see `BucketSettings`) and by boto3's own
    configuration, which also has the credentials. No request is made yet.

    Raises:
        PathRefused: `root_uri` is no `s3` URI of a prefix that ends in `/`, or names a whole bucket.
        SettingsRefused: a variable cannot be used.
        StoreError: boto3 lacks something.
    """
    root = Root.parse(root_uri)
    settings = BucketSettings.of(root.bucket, os.environ)
    return S3Store(root, Bucket(root.bucket, make_client(root.bucket, settings)))


class S3Store:
    """Checkpoints below one prefix. Implements `CheckpointStore`, `DistantStore` and `UsableStore` of `quota.ports`.

    A checkpoint is all that has a key below a prefix that ends in `/`. In a bucket that keeps versions, delete markers
    are the trash; in one that keeps none, the trash has copies, which take as much room again while they are made.

    Holds no state between calls but what `fence` was given and by what name claims are its own, so one store can serve
    several threads. Two callers must not work on one checkpoint at a time: the port's callers hold the stream's lock or
    a claim, and each claim says whose it is, for one of them may be frozen meanwhile. Whatever else writes to
    the bucket meanwhile can make a call fail; only in a bucket without versions on a server without conditional deletes
    can a write be lost, namely one that falls between the look at an object and its deletion.
    """

    def __init__(self, root: Root, bucket: Bucket) -> None:
        self._root = root
        self._bucket = bucket
        self._require_leave: Callable[[], None] = freely
        self._owner = uuid4().hex

    def manifest(self, uri: str) -> Manifest:
        """List what the checkpoint at `uri` consists of.

        Raises:
            PathRefused: `uri` is no prefix strictly below the root that ends in `/`, or holds a key that some servers
                take for another one, or a trash.
            CheckpointGone: there is nothing at `uri`; delete markers are nothing. Or some of it was deleted late, and
                `restore` has it.
            StoreError: the bucket cannot be reached or read.
        """
        prefix = self._root.locate(uri)
        if self._bucket.versioning() == "off":
            record, items = read_record(self._root, self._bucket, prefix), list(self._bucket.objects(prefix))
            _require_whole(uri, record.taken_away(prefix, items))
        else:
            record, items = Record(), visible_of(self._bucket.histories(prefix).values())
        return manifest_of(_subject(uri), prefix, items, record)

    def survey(self) -> Generator[StoredItem]:
        """List all objects below the root that are visible, but for the trash's.

        Raises:
            StoreError: the bucket cannot be reached or read.
        """
        for item in self._bucket.objects(self._root.prefix):
            path = item.key.removeprefix(self._root.prefix)
            if path and not item.key.startswith(self._root.trash_prefix):
                yield StoredItem(path=path.encode(), size_bytes=item.size_bytes, modified_at=item.modified_at)

    def space(self) -> None:
        """Return None: a bucket has no end."""

    def place(self, uri: str) -> str:
        """Return `uri`: keys have one name."""
        return uri

    def trash(self, uri: str, claim_id: str, manifest: Manifest) -> None:
        """Move the checkpoint at `uri` into the trash under `claim_id`. Durable on return.

        Returns without doing anything where the trash holds `claim_id` already.

        Raises:
            CheckpointGone: neither `uri` nor the trash has anything.
            CheckpointChanged: what lies at `uri` is not what `manifest` names. Nothing was moved, or it was moved back.
            PathRefused: as in `manifest`.
            StoreError: `claim_id` is no plain name, the bucket's versioning is suspended, or the server refused or
                failed; then what was moved was moved back. (Where a failing server does not even let that be done,
                the next call finishes or undoes it; `trashed` tells whether there is anything in the trash.)
        """
        prefix = self._root.locate(uri)
        place = self._place(claim_id)
        with fenced(self._require_leave):
            claim = place.find_of(uri)
            if claim is not None and claim.state == "moved":
                return
            if claim is not None:
                claim = self._taken_up(place, prefix, claim, manifest)
            if claim is None:
                claim = self._begun(place, prefix, uri, manifest)
            move = hiding.hide if claim.kind == "markers" else relocating.relocate
            move(place, prefix, _subject(uri), claim)

    def _taken_up(self, place: Place, prefix: str, claim: Claim, manifest: Manifest) -> Claim | None:
        """Return a claim that an earlier call has left, so that its move can go on; None where it was done with."""
        subject = _subject(claim.uri)
        if claim.state == "restored":
            bringing_back.put_back(place, prefix, subject, claim)
            if not claim.unanswered:
                return None
            kept = place.find() or claim
            place.take_down_sign()
            return relocating.taken_again(place, prefix, subject, kept, manifest)
        if set(manifest_entries(claim)) != set(manifest.entries):
            raise StoreError(f"{place.subject}: it was begun with another manifest; nothing was touched")
        place.write(claim)
        place.take_down_sign()
        return taken_up(claim)

    def _begun(self, place: Place, prefix: str, uri: str, manifest: Manifest) -> Claim:
        versioning = self._bucket.versioning()
        if versioning == "off":
            return relocating.begin(place, prefix, _subject(uri), uri, manifest)
        hiding.require_hiding(self._bucket, versioning)
        return hiding.begin(place, prefix, _subject(uri), uri, manifest)

    def restore(self, uri: str, claim_id: str) -> bool:
        """Move the checkpoint of `claim_id` back from the trash to `uri`, replacing nothing. Durable on return.

        Returns:
            False where the trash does not hold `claim_id`.

        Raises:
            CheckpointChanged: something else lies at `uri` now; the trash is left as it is.
            PathRefused: `uri` is no prefix strictly below the root that ends in `/`.
            StoreError: `claim_id` is no plain name or was on another checkpoint, some of it is gone, or the server
                refused or failed; calling again goes on. Or the lease is lost, and another process has taken it up.
        """
        prefix = self._root.locate(uri)
        place = self._place(claim_id)
        claim = place.find_of(uri)
        if claim is None:
            return False
        require = self._require_leave
        try:
            require()
        except LeaseLost as error:
            if claim.owner != self._owner:
                raise StoreError(f"{place.subject}: it is not this process's to give back any more: {error}") from error
            # What it has moved itself, and nobody has taken up, it still gives back, by what destroys nothing.
            if claim.kind == "copies" and claim.state in {"begun", "restored"}:
                return False
            claim, require = unanswered(claim), freely
        put_back = hiding.uncover if claim.kind == "markers" else bringing_back.put_back
        with fenced(require):
            return put_back(place, prefix, _subject(uri), claim)

    def purge(self, claim_id: str, manifest: Manifest) -> None:
        """Delete what the trash holds of `claim_id`, provided that `manifest` names all of it. This is final.

        Also ends the unfinished uploads below the checkpoint's prefix that are older than the checkpoint. Later ones
        may be a running trial's next checkpoint, and stay.

        Raises:
            CheckpointChanged: the trash holds something that `manifest` does not name, or what it holds is visible
                at its place; all that is left is kept.
            DeletionForbidden: object lock, legal hold or MFA delete keeps some of it; the claim stays, too.
            StoreError: `claim_id` is no plain name, or the server refused or failed part of the way; calling again
                goes on.
        """
        place = self._place(claim_id)
        claim = place.find()
        if claim is None:
            return
        delete = hiding.purge if claim.kind == "markers" else relocating.purge
        with fenced(self._require_leave):
            delete(place, self._root.locate(claim.uri), claim, manifest)

    def require_purgeable(self, claim_id: str, manifest: Manifest) -> None:
        """Check that the trash holds nothing of `claim_id` but what `manifest` names.

        Raises:
            CheckpointChanged: it does, or what it holds is visible at its place.
            StoreError: `claim_id` is no plain name, or the server refused or failed.
        """
        place = self._place(claim_id)
        claim = place.find()
        if claim is None:
            return
        require = hiding.require_purgeable if claim.kind == "markers" else relocating.require_purgeable
        require(place, self._root.locate(claim.uri), claim, manifest)

    def trashed(self, claim_id: str) -> bool:
        """Tell whether the trash holds anything of `claim_id`.

        Raises:
            StoreError: `claim_id` is no plain name, or the server refused or failed.
        """
        place = self._place(claim_id)
        claim = place.find()
        if claim is None or claim.state == "restored":
            return False
        if claim.state != "begun":
            return True
        return claim.kind == "markers" and hiding.is_partly_hidden(place, self._root.locate(claim.uri), claim)

    def claims(self) -> frozenset[str]:
        """List the claims that the trash holds anything of; one that a crash left half made or undone among them.

        Raises:
            StoreError: the bucket cannot be reached or read.
        """
        return frozenset(name for name in self._bucket.names(self._root.trash_prefix) if is_claim_id(name))

    def fence(self, require: Callable[[], None]) -> None:
        """From now on call `require` before each request but `mark`'s that changes anything.

        It is called again where botocore tries again.
        """
        self._require_leave = require

    def unsettled(self) -> frozenset[str]:
        """List the claims whose restore was begun, and may have been cut off.

        Raises:
            StoreError: the bucket cannot be reached or read.
        """
        names = set(self._bucket.names(self._root.trash_prefix))
        return frozenset(name for name in names if is_claim_id(name) and f"{name}{RESTORING}" in names)

    def release(self, uri: str, claim_id: str) -> None:
        """Forget a claim that was undone and is kept, with its copies; nothing where it was moved (again).

        Raises:
            PathRefused: `uri` is no prefix strictly below the root that ends in `/`.
            StoreError: the server refused or failed.
        """
        self._root.locate(uri)
        place = self._place(claim_id)
        claim = place.find_of(uri)
        if claim is not None:
            release = hiding.release if claim.kind == "markers" else bringing_back.release
            with fenced(self._require_leave):
                release(place, claim)

    def own_mark(self) -> str | None:
        """Read the mark in the root's trash.

        Raises:
            StoreError: the bucket cannot be reached or read.
        """
        return read_mark(self._root, self._bucket)

    def marks(self) -> Marks:
        """Read the mark in the root's trash, and those in the trashes of all prefixes above, the bucket's included.

        Raises:
            StoreError: the bucket cannot be reached or read.
        """
        return read_marks(self._root, self._bucket)

    def mark(self, text: str) -> None:
        """Mark the root with a text: by an object in its trash.

        Raises:
            StoreError: the server refused or failed.
        """
        write_mark(self._root, self._bucket, text)

    def require_usable(self) -> None:
        """Check that this process may move checkpoints into the trash and purge them: by an object of the trash's own.

        Whether that holds for each key below the root is seen when it is tried.

        Raises:
            StoreError: the bucket cannot be reached, is another one, has its versioning suspended, or forbids it.
        """
        require_usable(self._root, self._bucket)

    def _place(self, claim_id: str) -> Place:
        return Place(self._root, self._bucket, claim_id, self._owner)


def _require_whole(uri: str, taken_away: Sequence[str]) -> None:
    if taken_away:
        reason = "some of it was deleted after it had been restored, and the trash has copies of that"
        raise CheckpointGone(f"{_subject(uri)}: {reason}: {shown_paths(taken_away)}; the next sweep brings it back")


def _subject(uri: str) -> str:
    return f"checkpoint {uri}"
