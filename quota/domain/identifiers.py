"""What may serve as an id: of an experiment, a trial, an actor, a label.

Ids end up in paths, SQL answers and terminals, and auditors compare them by eye; so whatever looks like another
id, or changes how the text around it is shown, is no id.
"""

from __future__ import annotations

import unicodedata
import uuid

MAX_ID_BYTES = 200
DEPLOYMENT_STREAM = "_deployment"
ORPHANS_STREAM = "_orphans"
"""The experiment in whose name orphans are moved to the trash: they are decisions there, like evictions."""

TRASH_NAME = ".trash"
RESERVED_IDS = frozenset({DEPLOYMENT_STREAM, ORPHANS_STREAM, TRASH_NAME, ".", ".."})

# Cc control, Cf format (all bidirectional marks are among them), Cs lone surrogate, Co private use,
# Cn unassigned, Zl and Zp line and paragraph separators.
_REFUSED_CATEGORIES = {
    "Cc": "a control character",
    "Cf": "an invisible or bidirectional formatting character",
    "Cs": "a lone surrogate",
    "Co": "a private-use character",
    "Cn": "an unassigned code point",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}


def text_problem(text: str) -> str | None:
    """Say what keeps `text` from being shown and compared safely, or None."""
    if text.isascii() and text.isprintable():
        return None
    for index, char in enumerate(text):
        refused = _REFUSED_CATEGORIES.get(unicodedata.category(char))
        if refused is not None:
            return f"character {index + 1} (U+{ord(char):04X}) is {refused}; remove it"
    return None


def storage_problem(text: str) -> str | None:
    """Say what keeps free text, which may have several lines, from being stored on every database, or None."""
    for index, char in enumerate(text):
        if char == "\0" or unicodedata.category(char) == "Cs":
            return f"character {index + 1} (U+{ord(char):04X}) cannot be stored; remove it"
    return None


def id_problem(text: str) -> str | None:
    """Say what keeps `text` from being an id, or None.

    Ids must be NFC (so no two are equal after normalisation), 1 to 200 bytes of UTF-8, without blanks at either
    end, and not one of the reserved names.
    """
    if not text.strip():
        return "an id must not be empty or blank"
    problem = text_problem(text)
    if problem is not None:
        return problem
    if text != text.strip():
        return "an id must not begin or end with a blank"
    size = len(text.encode())
    if size > MAX_ID_BYTES:
        return f"an id has at most {MAX_ID_BYTES} bytes of UTF-8, this one has {size}"
    if text in RESERVED_IDS:
        return "this name is reserved; choose another"
    if not unicodedata.is_normalized("NFC", text):
        return "an id must be in Unicode normal form C, or two ids could look the same; normalise it (NFC)"
    return None


def event_id_problem(text: str) -> str | None:
    """Say what keeps `text` from being an event id, or None. Any UUID in its usual lower-case form is one."""
    try:
        canonical = str(uuid.UUID(text))
    except ValueError:
        return "an event id is a UUID (best a UUIDv7), e.g. 019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10"
    if canonical != text:
        return f"an event id is a UUID in its usual form; write it {canonical}"
    return None
