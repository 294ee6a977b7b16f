"""A recorder in a process of its own: appends batches, and acknowledges each on stdout once it is stored.

Ids, times and contents follow from the batch's number alone, so that a worker that was killed can be started again
and sends its last batch a second time.
"""

from __future__ import annotations

import sys
import uuid
from datetime import timedelta

from quota.domain.events import NewEvent, TrialReported
from quota.testing.memory_store import MemoryStore
from support import START, HandClock, services_over

NAMESPACE = uuid.UUID("019953f2-5d6c-7c3e-8a41-0b6f9d2e7a10")


def batch_of(worker: str, number: int, experiments: list[str]) -> list[NewEvent]:
    """One to seven reports, spread over the shared experiment and the worker's own."""
    return [
        NewEvent(
            event_id=str(uuid.uuid5(NAMESPACE, f"{worker} {number} {index}")),
            experiment_id=experiments[index % len(experiments)],
            occurred_at=START + timedelta(seconds=number),
            actor=worker,
            payload=TrialReported(trial_id=worker, resource=number + 1, metric=number / (index + 1)),
        )
        for index in range(1 + number % 7)
    ]


def main() -> None:
    url, worker, first, last, *experiments = sys.argv[1:]
    with services_over(url, HandClock(), MemoryStore) as services:
        for number in range(int(first), int(last)):
            services.recorder.append(batch_of(worker, number, experiments))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
