"""Putting under management what lies in a store without an event of its own."""

from __future__ import annotations

from functools import partial

from quota.domain.admission import admission_refusal
from quota.domain.events import CheckpointAdopted
from quota.domain.manifest import Manifest
from quota.domain.refusal import Refusal
from quota.domain.wire import recheck
from quota.eventlog.database import Database
from quota.projections.catching_up import CatchUp
from quota.projections.projector import Projector
from quota.services.aliases import Aliases
from quota.services.appending import Appender
from quota.services.named_places import Name
from quota.services.refusing import error_for, location_refusal
from quota.services.stores import OpenStore, Stores


class Adopter:
    """Makes checkpoints of orphans.

    Args:
        database: Where the log and the projections are.
        projector: Gives the locks and states.
        appender: In whose name.
        open_store: Opens a store.
    """

    def __init__(self, database: Database, projector: Projector, appender: Appender, open_store: OpenStore) -> None:
        self._database = database
        self._projector = projector
        self._appender = appender
        self._open_store = open_store

    def adopt(self, experiment_id: str, trial_id: str, uri: str, resource: int) -> Manifest:
        """Record that what lies at `uri` is the latest checkpoint of a trial.

        Args:
            experiment_id: The trial's experiment.
            trial_id: The trial.
            uri: Where it lies, in a store.
            resource: Units that the trial had consumed when it was written.

        Returns:
            What it consists of.

        Raises:
            BadInput: there is no such trial; the log knows the place already, or another one that overlaps it under
                whatever name; or the trial has a later checkpoint.
            CheckpointGone: there is nothing at `uri`.
            StoreError: no store holds it, or its store cannot be read.
        """
        named = f"checkpoint {uri}"
        adopted = recheck(CheckpointAdopted(trial_id=trial_id, uri=uri, size_bytes=0, resource=resource))
        if isinstance(adopted, Refusal):
            raise error_for(named, adopted)
        with self._database.read() as connection:
            stores = Stores(self._projector.look_at_deployment(connection), self._open_store)
        store = stores.holding(uri)
        manifest = store.manifest(uri)
        aliases = Aliases(self._database, self._projector, CatchUp(self._database, self._projector))
        aliases.refresh()
        aliases.require_none(Name(experiment_id, trial_id, uri), uri, stores.root_of(uri) or uri, store)
        payload = CheckpointAdopted(trial_id=trial_id, uri=uri, size_bytes=manifest.size_bytes, resource=resource)
        with self._projector.locked([experiment_id]) as all_locked:
            locked = all_locked[experiment_id]
            held_deployment = partial(self._projector.held_deployment, locked.stream.connection)
            refusal = admission_refusal(locked.state, payload) or location_refusal(locked, payload, held_deployment)
            if refusal is not None:
                raise error_for(named, refusal)
            self._appender.add(locked, payload)
            self._projector.store(locked)
        return manifest
