"""Where checkpoints lie: URIs, taken apart strictly.

What is deleted is named by a URI that somebody else wrote. So a location has exactly one spelling: whatever
could be read in two ways (`..`, an empty component, another quoting) is refused, never mended.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from quota.domain.identifiers import TRASH_NAME, text_problem

MAX_URI_BYTES = 2_048
# Unreserved characters and those that a path component may hold as they are (RFC 3986, pchar).
_PLAIN = "!$&'()*+,;=:@-._~"
_PLAIN_PATH = re.compile(f"[A-Za-z0-9{re.escape(_PLAIN)}/]+")


@dataclass(frozen=True, slots=True)
class Location:
    """A parsed URI.

    Attributes:
        scheme: `file`, `s3` …
        authority: Empty for `file`, the bucket for `s3`.
        components: The path's components, decoded to bytes, since file names need not be UTF-8.
        is_prefix: Whether the URI ends in `/`, as object-store prefixes do.
    """

    scheme: str
    authority: str
    components: tuple[bytes, ...]
    is_prefix: bool

    @property
    def uri(self) -> str:
        """The location's one spelling."""
        path = "/".join(quote(component, safe=_PLAIN) for component in self.components)
        slash = "/" if self.is_prefix and self.components else ""
        return f"{self.scheme}://{self.authority}/{path}{slash}"

    def spell_below(self, path: bytes) -> str:
        """Return the URI of a path below this location, which need not be a location: keys may have any form."""
        name = quote(path, safe=f"{_PLAIN}/")
        return self.key + (name.removesuffix("/") if self.scheme == "file" else name)

    def contains(self, other: Location) -> bool:
        """Tell whether `other` is this location or lies below it."""
        return (
            self.scheme == other.scheme
            and self.authority == other.authority
            and self.components == other.components[: len(self.components)]
        )

    def ancestors(self) -> tuple[str, ...]:
        """Return the keys (see `key`) of all locations that strictly contain this one."""
        return tuple(
            Location(self.scheme, self.authority, self.components[:depth], is_prefix=False).key
            for depth in range(len(self.components))
        )

    def spellings_around(self) -> tuple[str, ...]:
        """Return the URIs of this location and of all that contain it, with and without a final `/`."""
        keys = (self.key, *self.ancestors())
        return (*keys, *(key.removesuffix("/") for key in keys))

    @property
    def key(self) -> str:
        """The spelling with a final `/`: a location contains another just if its key begins the other's."""
        uri = self.uri
        return uri if uri.endswith("/") else f"{uri}/"


def location_problem(uri: str) -> str | None:
    """Say what keeps `uri` from naming a location, or None."""
    problem = text_problem(uri)
    if problem is not None:
        return problem
    if len(uri.encode()) > MAX_URI_BYTES:
        return f"a URI has at most {MAX_URI_BYTES} bytes"
    scheme, separator, rest = uri.partition("://")
    if not separator or not scheme.isascii() or not scheme.isalnum() or scheme != scheme.lower():
        return "a location is an absolute URI, e.g. file:///scratch/hpo/trial-1 or s3://bucket/hpo/trial-1/"
    authority, slash, path = rest.partition("/")
    if scheme == "file" and authority:
        return "a file URI has an empty host and an absolute path: file:///scratch/hpo/trial-1"
    if scheme != "file" and not authority:
        return f"a URI of scheme {scheme} names its bucket or host after `//`"
    if not slash:
        return "a location needs a path; write at least a final `/`"
    return _path_problem(scheme, path, uri)


def _path_problem(scheme: str, path: str, uri: str) -> str | None:
    if scheme == "file" and path.endswith("/"):
        return "a directory is written without a final `/`"
    if scheme != "file" and not uri.endswith("/"):
        return f"a prefix ends in `/`, or it would take others along; write {uri}/"
    inner = path.removesuffix("/")
    for component in inner.split("/") if inner else []:
        decoded = unquote_to_bytes(component)
        if not decoded:
            return "it has an empty component (`//`)"
        if decoded in {b".", b".."}:
            return "`.` and `..` are not followed; write the path without them"
        if b"/" in decoded or b"\0" in decoded:
            return "a component cannot hold a quoted `/` or NUL"
        if decoded == TRASH_NAME.encode():
            return f"`{TRASH_NAME}` is reserved for what has been evicted"
    # What is plain is spelled as it is.
    spelling = uri if _PLAIN_PATH.fullmatch(inner) else _parse(uri).uri
    if spelling != uri:
        return f"a location has one spelling only; write {spelling}"
    return None


# A plan asks of the same places over and over: of which store, of which scope, and whether anything is in their way.
@lru_cache(maxsize=16_384)
def parse_location(uri: str) -> Location:
    """Take `uri` apart.

    Raises:
        ValueError: `location_problem(uri)` is not None; the message is that problem.
    """
    problem = location_problem(uri)
    if problem is not None:
        raise ValueError(problem)
    return _parse(uri)


def file_location(path: bytes) -> Location:
    """Return the location of an absolute path on a local disk."""
    return Location("file", "", tuple(part for part in path.split(b"/") if part), is_prefix=False)


def _parse(uri: str) -> Location:
    scheme, _, rest = uri.partition("://")
    authority, _, path = rest.partition("/")
    inner = path.removesuffix("/")
    components = tuple(map(unquote_to_bytes, inner.split("/"))) if inner else ()
    return Location(scheme, authority, components, is_prefix=path.endswith("/"))
