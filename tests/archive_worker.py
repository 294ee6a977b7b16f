"""A process that does something with an archive once it is told to, and may kill itself at a point of it.

Arguments: the database, the step, what the step takes, and perhaps a point such as `before module:name 2`, the second
call of that function.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

from archives import silent
from quota.client import ExperimentHandle
from quota.domain.events import ExperimentFinished
from quota.errors import QuotaError
from quota.testing.memory_store import MemoryStore
from support import HandClock, services_over

if TYPE_CHECKING:
    from quota.bootstrap import Services


def kill_at(when: str, place: str, number: int) -> None:
    """Let this process die before or after the so-manieth call of a function or method."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = import_module(module)
    for one in owners:
        owner = getattr(owner, one)
    original, calls = getattr(owner, name), [0]

    def count() -> None:
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    @wraps(original)
    def counted(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any function
        if when == "before":
            count()
        found = original(*arguments, **named)
        if when == "after":
            count()
        return found

    setattr(owner, name, counted)


def do(services: Services, step: str, subject: str) -> None:
    match step:
        case "create":
            services.archiver.create("x", subject, silent)
        case "remove":
            services.event_remover.remove(subject, silent)
        case "restore":
            services.event_restorer.restore(subject, silent)
        case _:
            ExperimentHandle(services, "tuner", subject).record(ExperimentFinished())


def main() -> None:
    url, step, subject, *point = sys.argv[1:]
    if point:
        when, place, number = point[0].split()
        kill_at(when, place, int(number))
    with services_over(url, HandClock(), MemoryStore) as services:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        try:
            do(services, step, subject)
        except QuotaError as error:
            sys.stdout.write(f"{type(error).__name__}\n")
        else:
            sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
