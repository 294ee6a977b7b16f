"""Keys below a checkpoint's prefix, and the paths that a manifest calls them by: one path a key, and back."""

from __future__ import annotations

from urllib.parse import quote, unquote

from quota.domain.identifiers import TRASH_NAME
from quota.errors import PathRefused

ITSELF = "."
# What stands in a listing for a character that XML cannot carry, where a server does not quote keys.
_UNTOLD = "\ufffd"
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def path_of(subject: str, prefix: str, key: str) -> str:
    """Return the path of `key`, which begins with `prefix`, as a manifest spells it.

    A key that ends in `/` stands for an empty directory: its path ends so too, and that of the prefix itself is `.`.

    Raises:
        PathRefused: some servers and tools would read the key as another one.
    """
    name = key.removeprefix(prefix)
    if not name:
        return ITSELF
    components = name.removesuffix("/").split("/")
    reason = None
    if not all(components):
        reason = "it has an empty component (`//`), which some servers take for `/`"
    elif not {".", ".."}.isdisjoint(components):
        reason = "it has a component `.` or `..`, which some servers and tools follow"
    elif TRASH_NAME in components:
        reason = f"it lies in a `{TRASH_NAME}`, so a part of the checkpoint is another store; none lies in two stores"
    elif _UNTOLD in name:
        reason = "it has a character that the server could not tell (U+FFFD), so which key is meant is not known"
    if reason is not None:
        raise PathRefused(subject, "key", key, f"{reason}; rename or remove it, then try again")
    return quote(name, safe=_PLAIN)


def key_of(prefix: str, path: str) -> str:
    """Return the key below `prefix` that `path_of` spells `path`."""
    return prefix if path == ITSELF else prefix + unquote(path)


def is_placeholder(key: str, size_bytes: int) -> bool:
    """Tell whether an object only stands for a directory: it has a name that ends in `/`, and no content."""
    return key.endswith("/") and size_bytes == 0
