"""Files that are written whole or not at all, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def written_whole(place: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write to; it has its name once the block has ended, and none where it has not.

    Whoever reads the place meanwhile, or after a crash, finds what was there before, or all that was written.

    Args:
        place: Its name.
        replace: Whether what is there by then is replaced.

    Raises:
        FileExistsError: something is there by then, and is not to be replaced.
        OSError: it cannot be written.
    """
    beside = place.with_name(f".{place.name[:100]}.{uuid4()}")
    try:
        with beside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        # A link is refused where something has come there since; a rename would replace it.
        (os.replace if replace else os.link)(beside, place)
    finally:
        with suppress(OSError):
            beside.unlink()
    sync_directory(place.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory outlast a power cut.

    Raises:
        OSError: that cannot be done.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
