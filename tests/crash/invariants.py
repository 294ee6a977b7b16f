"""What must hold once a sweep has ended, however many processes were killed before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crash.scenario import KEEP, look
from quota.bootstrap import open_store
from quota.domain.identifiers import DEPLOYMENT_STREAM, ORPHANS_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crash.media import Medium
    from quota.bootstrap import Services


def broken(services: Services, medium: Medium, acknowledged: set[str], forgotten: set[str]) -> Iterator[str]:
    """Sweep once, and yield what does not hold then.

    Args:
        services: Over the database that outlived the processes.
        medium: Where the trials write.
        acknowledged: Numbers of the checkpoints whose saves are known to be recorded.
        forgotten: Places and numbers of those that were lost by hand, of which the log need not know yet.
    """
    services.sweeper.sweep(services.queries.experiment_ids(), KEEP)
    yield from _log(services)
    yield from _checkpoints(services, medium, acknowledged - forgotten, forgotten)
    yield from _trash(services, medium)
    for name in medium.touched_canaries():
        yield f"{name} was touched"


def _log(services: Services) -> Iterator[str]:
    for head in services.auditor.heads():
        fault = services.auditor.verify(head, lambda _: None)
        if fault is not None:
            yield f"the chain is broken: {fault}"
    for stream in (*services.queries.experiment_ids(), DEPLOYMENT_STREAM):
        for difference in services.rebuilder.verify(stream, lambda _: None):
            yield f"a projection is not the fold of the log: {difference}"


def _checkpoints(services: Services, medium: Medium, acknowledged: set[str], forgotten: set[str]) -> Iterator[str]:
    state = look(services)
    for uri, checkpoint in state.checkpoints.items():
        found = medium.read(uri)
        if checkpoint.state == "stored":
            is_other = found is not None and found["trial"] != checkpoint.trial_id
            if is_other or (found is None and uri not in forgotten):
                yield f"{uri} is stored by the log, and the disk has {found}"
        elif found is not None and str(found["number"]) in acknowledged:
            yield f"{uri} is {checkpoint.state} by the log, and the disk has {found}"
    for trial in state.trials.values():
        uri = trial.promised_uri
        is_lost = uri is None or uri in forgotten or state.checkpoints[uri].state != "stored"
        if uri is not None and not is_lost and medium.read(uri) is None:
            yield f"trial {trial.trial_id} was promised {uri}, and it is gone"
    stored = sum(one.state == "stored" for one in state.checkpoints.values())
    if state.usage.stored_checkpoints != stored:
        yield f"usage says {state.usage.stored_checkpoints} stored, and there are {stored}"


def _trash(services: Services, medium: Medium) -> Iterator[str]:
    decisions = look(services).decisions | look(services, ORPHANS_STREAM).decisions
    still_claimed = [one for one, decision in decisions.items() if decision.outcome != "trashed"]
    if still_claimed:
        yield f"claims are open after a sweep: {still_claimed}"
    in_trash = open_store(medium.root_uri).claims()
    if in_trash != set(decisions):
        yield f"the trash holds {sorted(in_trash)}, and the log says {sorted(decisions)}"
