"""A store's root: a prefix in a bucket, and the prefixes of checkpoints below it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quota.domain.identifiers import TRASH_NAME
from quota.domain.locations import Location, parse_location
from quota.errors import PathRefused, StoreError, shown

SCHEME = "s3"
_MARK_NAME = ".store"
# Lower case, as in the other stores. No claim begins with a dot, and none has one in it.
_CLAIM_ID = re.compile(r"[0-9a-z][0-9a-z_-]{0,127}")


@dataclass(frozen=True, slots=True)
class Root:
    """The prefix below which a store may delete.

    Attributes:
        location: As the operator wrote it.
        bucket: The bucket's name.
        components: What the prefix consists of, at least one.
    """

    location: Location
    bucket: str
    components: tuple[str, ...]

    @classmethod
    def parse(cls, root_uri: str) -> Root:
        """Take the URI of a store apart.

        Raises:
            PathRefused: it is no `s3` URI of a prefix in a bucket that ends in `/`, or it is a whole bucket.
        """
        subject = "store"
        location = _parsed(subject, root_uri)
        if location.scheme != SCHEME:
            raise PathRefused(subject, "uri", root_uri, "a store in a bucket has a URI like s3://bucket/prefix/")
        if not location.components:
            raise PathRefused(subject, "uri", root_uri, "a whole bucket is no store; add a prefix: s3://bucket/prefix/")
        return cls(location, location.authority, _decoded(subject, root_uri, location.components))

    @property
    def uri(self) -> str:
        """The root's one spelling."""
        return self.location.uri

    @property
    def prefix(self) -> str:
        """What all keys of the store begin with."""
        return _joined(self.components)

    def locate(self, uri: str) -> str:
        """Return what all keys of the checkpoint at `uri` begin with; it ends in `/`.

        Raises:
            PathRefused: `uri` is not strictly below the root, does not end in `/`, or is no location at all.
        """
        subject = "checkpoint"
        location = _parsed(subject, uri)
        if not self.location.contains(location) or len(location.components) == len(self.components):
            reason = f"it is not strictly below the root {self.uri} of this store"
            raise PathRefused(subject, "uri", uri, reason)
        return _joined(_decoded(subject, uri, location.components))

    def claim_key(self, claim_id: str) -> str:
        """Return the key of the object that stands for a claim in the trash.

        Raises:
            StoreError: `claim_id` is no plain name, such as a UUID is.
        """
        if not is_claim_id(claim_id):
            reason = "a claim id is a UUID in lower case, or another plain name of a-z, 0-9, `-` and `_`"
            raise StoreError(f"store {self.uri}: claim_id is {shown(claim_id)}: {reason}")
        return f"{self.trash_prefix}{claim_id}"

    @property
    def trash_prefix(self) -> str:
        """What all keys of the trash begin with."""
        return f"{self.prefix}{TRASH_NAME}/"

    @property
    def mark_key(self) -> str:
        """The key of the root's mark."""
        return _mark_key(self.components)

    @property
    def mark_keys_above(self) -> tuple[str, ...]:
        """The keys of the marks of all prefixes that the root lies in, innermost first, the bucket's own last."""
        return tuple(_mark_key(self.components[:depth]) for depth in reversed(range(len(self.components))))


def is_claim_id(name: str) -> bool:
    """Tell whether `name` is a plain name, such as a UUID is."""
    return _CLAIM_ID.fullmatch(name) is not None


def _parsed(subject: str, uri: str) -> Location:
    try:
        return parse_location(uri)
    except ValueError as error:
        raise PathRefused(subject, "uri", uri, str(error)) from error


def _decoded(subject: str, uri: str, components: tuple[bytes, ...]) -> tuple[str, ...]:
    try:
        return tuple(component.decode() for component in components)
    except UnicodeDecodeError as error:
        raise PathRefused(subject, "uri", uri, "keys are UTF-8; quote them so") from error


def _joined(components: tuple[str, ...]) -> str:
    return "".join(f"{component}/" for component in components)


def _mark_key(components: tuple[str, ...]) -> str:
    return f"{_joined(components)}{TRASH_NAME}/{_MARK_NAME}"
