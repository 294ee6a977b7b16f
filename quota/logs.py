"""What the processes say while they work: to standard error, as text for people or one JSON object a line."""

from __future__ import annotations

import logging
import sys
from time import gmtime
from typing import Literal, TextIO

_TIME = "%Y-%m-%dT%H:%M:%S"
_MILLISECONDS = "%s.%03dZ"
"""Times are UTC, as those of the log and of the schedules are, so that the messages of hosts in two zones merge."""

_TEXT = "%(asctime)s %(levelname)s %(message)s"
_FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure(form: Literal["text", "json"], level: str) -> None:
    """Say where messages go. What libraries say is shown from warnings on.

    Args:
        form: `text`, or `json` for one object a line.
        level: From which level on ours are shown.
    """
    handler: logging.Handler
    if form == "json":
        from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 - only those who want it wait for it

        handler = _JsonLines(sys.stderr)
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        formatter: logging.Formatter = JsonFormatter(_FIELDS, rename_fields=names)
    else:
        handler = logging.StreamHandler(sys.stderr)
        formatter = logging.Formatter(_TEXT)
    formatter.converter = gmtime
    formatter.default_time_format, formatter.default_msec_format = _TIME, _MILLISECONDS
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in ("quota", "quota_local", "quota_s3"):
        logging.getLogger(name).setLevel(level.upper())
    # It warns whenever a job takes longer than its interval, which is no fault: the next run is then later.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)


def are_json() -> bool:
    """Tell whether messages go out as one JSON object a line."""
    return any(isinstance(handler, _JsonLines) for handler in logging.getLogger().handlers)


class _JsonLines(logging.StreamHandler[TextIO]):
    """Writes one JSON object a line."""
