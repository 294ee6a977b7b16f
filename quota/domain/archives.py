"""Archives of experiments' events, as the deployment knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from quota.domain.events import ArchiveRestored, EventsRemoved, ExperimentArchived


@dataclass(frozen=True, slots=True)
class Archive:
    """Where an experiment's events were written to.

    Attributes:
        experiment_id: The experiment.
        uri: Where it lies.
        position: Position of the last event in it.
        head_hash: That event's hash, in hexadecimal.
        manifest_sha256: Digest of its manifest, in hexadecimal.
        archived_at: When it was written, or first heard of.
        actor: Who wrote it, or restored from it.
        removed_at: Since when the events lie there alone; None where they are in the log.
    """

    experiment_id: str
    uri: str
    position: int
    head_hash: str
    manifest_sha256: str
    archived_at: datetime
    actor: str
    removed_at: datetime | None = None


def archives_after(
    known: Mapping[tuple[str, str], Archive],
    payload: ExperimentArchived | EventsRemoved | ArchiveRestored,
    at: datetime,
    actor: str,
) -> list[Archive]:
    """Return the archives that an event says something new of.

    Args:
        known: By experiment and URI.
        payload: The event.
        at: When it happened.
        actor: Who says so.
    """
    before = known.get((payload.experiment_id, payload.uri))
    first = None if isinstance(payload, ExperimentArchived) else before
    told = Archive(
        payload.experiment_id,
        payload.uri,
        payload.position,
        payload.head_hash,
        payload.manifest_sha256,
        at if first is None else first.archived_at,
        actor if first is None else first.actor,
        at if isinstance(payload, EventsRemoved) else None,
    )
    if not isinstance(payload, ArchiveRestored):
        return [told]
    # The archive that was restored from may be a copy of the one that has had them alone.
    others = [one for one in known.values() if one.experiment_id == payload.experiment_id and one.uri != payload.uri]
    return [told, *(replace(one, removed_at=None) for one in others if one.removed_at is not None)]
