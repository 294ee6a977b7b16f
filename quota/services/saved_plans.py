"""Saving a plan, reading it back, and making sure that it still is what a sweep would do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import msgspec
from sqlalchemy import Connection

from quota.domain.approval import Approval
from quota.domain.events import PolicyParameters
from quota.domain.events.base import instant_problem
from quota.domain.experiment import ExperimentState
from quota.domain.fold.timing import FUTURE_TOLERANCE
from quota.domain.identifiers import DEPLOYMENT_STREAM, ORPHANS_STREAM, id_problem
from quota.domain.plan_changes import differences, why_not_any_more
from quota.domain.saved_plan import FORMAT, SavedEviction, SavedHead, SavedPlan, saved_limits
from quota.domain.wire import value_at
from quota.errors import LogCorrupt, PlanStale, ProjectionDiverged, SettingsRefused
from quota.eventlog.chain import GENESIS
from quota.eventlog.database import Database
from quota.eventlog.log import EventLog
from quota.ports import Clock
from quota.projections.projector import Projector
from quota.services.objecting import pinning
from quota.services.planning import Planned, Planner

_PLACE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_OTHER_FIELD = re.compile(r"Object (?P<what>contains unknown|missing required) field `(?P<name>[^`]*)`")
_MISSING = "this field is missing"
_ADVICE = "make it with: ckpt-quota plan --save FILE"


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """A plan as it was read.

    Attributes:
        name: What to call it in messages.
        plan: What it says.
        approval: What applying it approves.
    """

    name: str
    plan: SavedPlan
    approval: Approval


def parse_plan(text: bytes, file: str) -> ReadPlan:
    """Read a saved plan.

    Raises:
        SettingsRefused: the text is none; the message names the file, and the field at fault.
    """
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = f"it holds no whole plan: {error}; {_ADVICE}"
        raise SettingsRefused("saved plan", "file", file, reason) from error
    number = found.get("format") if isinstance(found, dict) else None
    if type(number) is not int or number != FORMAT:
        reason = f"it holds no plan of format {FORMAT}, which is what this software reads and writes; {_ADVICE}"
        raise SettingsRefused(f"saved plan {file}", "format", number, reason)
    try:
        plan = msgspec.json.decode(text, type=SavedPlan)
    except msgspec.ValidationError as error:
        field, reason = _fault(str(error))
        value = None if reason == _MISSING else value_at(found, field)
        raise SettingsRefused(f"saved plan {file}", field, value, f"{reason}; {_ADVICE}") from error
    _require_sound(plan, file)
    return ReadPlan(f"saved plan {file}", plan, plan.approval(sha256(text).hexdigest()))


def _fault(message: str) -> tuple[str, str]:
    """Read the field and what is wrong with it out of msgspec's message."""
    place = _PLACE.search(message)
    path, reason = (place["path"], message[: place.start()]) if place else ("", message)
    other = _OTHER_FIELD.match(reason)
    if other is None:
        return path, reason[:1].lower() + reason[1:]
    said = "no such field" if other["what"] == "contains unknown" else _MISSING
    return f"{path}.{other['name']}" if path else other["name"], said


def _require_sound(plan: SavedPlan, file: str) -> None:
    """Check what types do not."""
    for field, value, problem in _problems(plan):
        if problem is not None:
            raise SettingsRefused(f"saved plan {file}", field, value, f"{problem}; {_ADVICE}")


def _problems(plan: SavedPlan) -> Iterator[tuple[str, object, str | None]]:
    yield "made_at", str(plan.made_at), instant_problem(plan.made_at)
    refusal = plan.parameters.refusal()
    if refusal is not None:
        yield f"parameters.{refusal.field}", refusal.value, refusal.reason
    for experiment_id in plan.experiment_ids:
        yield "experiment_ids", experiment_id, None if experiment_id == ORPHANS_STREAM else id_problem(experiment_id)
    named = [head.experiment_id for head in plan.heads]
    if sorted(named) != sorted({DEPLOYMENT_STREAM, *plan.experiment_ids}):
        yield "heads", ", ".join(named), f"these are not {DEPLOYMENT_STREAM} and each of the experiments once"


class PlanKeeper:
    """Says what a plan is that is to be saved, and whether one that was still holds.

    Args:
        database: Where the log lies.
        log: Says which database it is.
        projector: Gives states, to say why a plan holds no more.
        planner: Plans again.
        clock: Tells whether a plan was made by now.
        software_version: Is saved with each plan.
    """

    def __init__(
        self,
        database: Database,
        log: EventLog,
        projector: Projector,
        planner: Planner,
        clock: Clock,
        software_version: str,
    ) -> None:
        self._database = database
        self._log = log
        self._projector = projector
        self._planner = planner
        self._clock = clock
        self._software_version = software_version

    def saved(
        self, planned: Planned, experiment_ids: Sequence[str], parameters: PolicyParameters, configured_policy: str
    ) -> bytes:
        """Return a plan as it is saved.

        Args:
            planned: The plan.
            experiment_ids: From which anything may be evicted; what was left out of the plan is left out here.
            parameters: The policy.
            configured_policy: The policy that the settings name.
        """
        chosen = [one for one in experiment_ids if one not in planned.untrusted]
        heads = {one: planned.heads.get(one, (0, GENESIS)) for one in (DEPLOYMENT_STREAM, *chosen)}
        plan = SavedPlan(
            format=FORMAT,
            made_at=planned.made_at,
            software_version=self._software_version,
            configured_policy=configured_policy,
            parameters=parameters,
            experiment_ids=tuple(chosen),
            heads=tuple(
                SavedHead(experiment_id=stream, position=position, hash=digest.hex())
                for stream, (position, digest) in heads.items()
            ),
            limits=saved_limits(planned.plans, planned.shared),
        )
        return msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n"

    def confirmed(self, read: ReadPlan, configured: PolicyParameters) -> Planned:
        """Plan again as a saved plan was made, and make sure that it comes out the same.

        Args:
            read: The saved plan.
            configured: The policy by the settings as they are now.

        Returns:
            The plan as it is to be carried out, resting on the log as it is by now.

        Raises:
            PlanStale: it comes out different, or it is another database's.
            LogCorrupt: the deployment's own stream contradicts itself.
            ProjectionDiverged: its tables contradict it.
        """
        plan = read.plan
        self._require(read, [*self._foreign(plan), *self._too_early(plan)])
        self._require(read, list(_changed_settings(plan, configured)))
        planned = self._planner.plan(plan.experiment_ids, plan.parameters, plan.made_at)
        untrusted = [f"experiment {one}: {why}" for one, why in planned.untrusted.items() if one in plan.experiment_ids]
        with self._database.read() as connection:
            now = saved_limits(planned.plans, planned.shared)
            changed = differences(plan.limits, now, _Reasons(connection, self._projector).why_not)
            self._require(read, [*untrusted, *changed])
        return planned

    def _require(self, read: ReadPlan, found: Sequence[str]) -> None:
        if found:
            raise PlanStale(read.name, found, "read a new one, then apply that: ckpt-quota plan --save FILE --force")

    def _foreign(self, plan: SavedPlan) -> Iterator[str]:
        """Yield what tells this database from the one that a plan was made with."""
        with self._database.read() as connection:
            for head in plan.heads:
                known = self._log.hash_at(connection, head.experiment_id, head.position)
                if known is None or known.hex() != head.hash:
                    yield (
                        f"the log of {head.experiment_id} has another event {head.position}, or none: this is another "
                        "database, or an older copy of it"
                    )

    def _too_early(self, plan: SavedPlan) -> Iterator[str]:
        if plan.made_at > self._clock.now() + FUTURE_TOLERANCE:
            yield f"it was made at {plan.made_at}, which is yet to come: one of two clocks is wrong"


class _Reasons:
    """Says why evictions are not called for any more; it keeps at hand the experiment that it was last asked about."""

    def __init__(self, connection: Connection, projector: Projector) -> None:
        self._connection = connection
        self._projector = projector
        self._deployment = projector.look_at_deployment(connection)
        self._state: ExperimentState | None = None

    def why_not(self, experiment_id: str, one: SavedEviction) -> str:
        state = self._state
        if state is None or state.experiment_id != experiment_id:
            try:
                state = self._state = self._projector.look(self._connection, experiment_id)
            except (LogCorrupt, ProjectionDiverged):
                return "its experiment contradicts itself"
        is_pinned = pinning(state, self._deployment)
        why = why_not_any_more(state, one.uri, one.checkpoint_position, one.reason, is_pinned)
        return why or "less has to go, or others are missed less"


def _changed_settings(plan: SavedPlan, configured: PolicyParameters) -> Iterator[str]:
    """Yield the settings that differ from those that a plan was made by."""
    if configured.policy != plan.configured_policy:
        yield f"setting policy: it is {configured.policy} by now, and was {plan.configured_policy}"
    for name in PolicyParameters.__struct_fields__:
        now, then = getattr(configured, name), getattr(plan.parameters, name)
        if name not in {"policy", "seed"} and now != then:
            yield f"setting {name}: it is {now} by now, and was {then}"
