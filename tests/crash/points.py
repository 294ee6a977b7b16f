"""The points at which the driver kills processes: which there are, which cannot occur where, and what leads to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StoreKind = Literal["local", "s3-versioned", "s3-unversioned"]

STORE_CALLS = ("manifest", "trash", "restore", "require_purgeable", "purge", "trashed", "claims")
STEPS = (
    "plan of the sweep",
    "claim of the sweep",
    "claim of orphans",
    "comparison with the stores",
    "rebuild",
    "clearing of rows by the rebuild",
)
SYSTEM_CALLS = ("rename", "mkdir", "unlink", "rmdir", "fsync")
EVENTS = (
    "trial_started",
    "trial_reported",
    "trial_paused",
    "trial_resumed",
    "trial_completed",
    "checkpoint_saved",
    "checkpoint_adopted",
    "checkpoint_pinned",
    "checkpoint_unpinned",
    "checkpoint_missing",
    "eviction_decided",
    "eviction_failed",
    "eviction_cancelled",
    "checkpoint_trashed",
    "checkpoint_restored",
    "purge_decided",
    "checkpoint_purged",
    "sweep_started",
    "sweep_finished",
)
REQUESTS = (
    "PutObject",
    "CopyObject",
    "GetObject",
    "HeadObject",
    "DeleteObject",
    "DeleteObjects",
    "ListObjectsV2",
    "ListObjectVersions",
    "CreateMultipartUpload",
    "UploadPartCopy",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "ListMultipartUploads",
)


def _around(names: tuple[str, ...], form: str = "{}") -> tuple[str, ...]:
    return tuple(f"{when} {form.format(name)}" for name in names for when in ("before", "after"))


_ANYWHERE = (
    *_around(STEPS),
    *_around(STORE_CALLS, "{} of the store"),
    *_around(EVENTS, "commit of {}"),
)
_IN_BUCKETS = (*_ANYWHERE, *_around(REQUESTS, "{} by the store"))
POINTS: dict[StoreKind, tuple[str, ...]] = {
    "local": (*_ANYWHERE, *_around(SYSTEM_CALLS, "{} by the store")),
    "s3-versioned": _IN_BUCKETS,
    "s3-unversioned": _IN_BUCKETS,
}

_COPIES = ("CopyObject", "CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload")
_NO_COPY = "delete markers are the trash of a bucket that keeps versions, so nothing is copied"
_NO_LOOK = "a version that was listed stays what it is, so it is not looked at again"
_NO_SUCH: dict[StoreKind, dict[str, str]] = {
    "local": {},
    "s3-versioned": {
        **dict.fromkeys(_around(_COPIES, "{} by the store"), _NO_COPY),
        **dict.fromkeys(_around(("HeadObject",), "{} by the store"), _NO_LOOK),
        **dict.fromkeys(
            _around(("DeleteObject",), "{} by the store"), "what a bucket keeps versions of is deleted by the thousand"
        ),
    },
    "s3-unversioned": {
        **dict.fromkeys(_around(("ListObjectVersions",), "{} by the store"), "there are no versions to be listed"),
    },
}


def cannot_occur(store: StoreKind) -> dict[str, str]:
    """Return the points that no process comes to, and why; that is the same for both databases."""
    return _NO_SUCH[store]


@dataclass(frozen=True)
class Way:
    """What leads to a point that chance seldom does.

    Attributes:
        first: What the scenario is to do before anything else, in this order.
        actions: What it is to do most of the time then.
        refusals: Of how many of its calls a store refuses.
        after: Where to kill another process first, after which nobody settles anything.
        longest: Up to the how-many-th time that a process comes to the point it may live.
    """

    actions: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    refusals: float = 0.02
    after: str | None = None
    longest: int = 3


_WAYS: dict[str, Way] = {
    # Only an open claim is ever cancelled, and sweeps that are not killed leave none. A resume cancels one only if that
    # is about the trial's newest checkpoint.
    "eviction_cancelled": Way(first=("pin", "sweep"), after="after claim of the sweep", longest=1),
    "claim of the sweep": Way(("train", "sweep")),
    "eviction_failed": Way(("train", "resume", "sweep"), refusals=0.4, longest=1),
    "rebuild": Way(("rebuild",)),
    "comparison": Way(("reconcile",)),
    "restore": Way(("restore", "train", "sweep"), longest=2),
    "completed": Way(("resume", "train"), longest=1),
    "pinned": Way(("pin",)),
    "missing": Way(("lose", "sweep", "reconcile"), longest=1),
    "adopted": Way(("litter",)),
    "orphans": Way(("litter",)),
    "Abort": Way(("begin_upload", "sweep"), longest=1),
    # A directory is made again where a restore finds that its trial's is gone.
    "mkdir": Way(("lose", "restore", "sweep"), longest=1),
    "Copy": Way(("resume", "train", "sweep"), longest=1),
    "Multipart": Way(("resume", "train", "sweep"), longest=1),
}
USUALLY = Way()


def way_to(point: str) -> Way:
    """Return what leads to a point."""
    return next((way for part, way in _WAYS.items() if part in point), USUALLY)
