"""What planning reads of an experiment it finds by indexes of what is live, on SQLite, which keeps no statistics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from quota.eventlog.database import Database
from quota.services.migrating import upgrade
from sweeps import sweeps_over

if TYPE_CHECKING:
    from pathlib import Path

INDEXES = {
    "ix_checkpoints_experiment_id_trial_id",
    "ix_decisions_open",
    "ix_rung_entries_candidates",
    "ix_rung_entries_level_experiment_id_changed_position",
    "ix_trials_live",
}
"""Those of tables that grow with the history."""
HISTORY = re.compile(r"(SCAN|SEARCH) (checkpoints|decisions|rung_entries|trials)\b(.*)")


def test_planning_reads_nothing_that_is_past(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/quota.db"
    database = Database(url)
    # Of two indexes that seem equally good SQLite takes the one that was made later, so the order matters.
    upgrade(database)
    database.close()
    with sweeps_over(url) as sweeps:
        sweeps.prepare(4, high=2, low=2)
        sweeps.sweep()
        services, asked = sweeps.services, list[tuple[str, Any]]()
        with services.database.read() as connection:

            def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:  # noqa: ANN401
                asked.append((statement, parameters))

            event.listen(connection, "before_cursor_execute", note)
            services.projector.glance(connection, "x", ranked=True)
            event.remove(connection, "before_cursor_execute", note)
            steps = [
                str(row[-1])
                for statement, parameters in asked
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            ]
        read = [found for step in steps if (found := HISTORY.search(step))]
        used = {name for found in read for name in re.findall(r"INDEX (\w+)", found[3])}
        assert used == INDEXES | {"sqlite_autoindex_trials_1"}
        assert not [found[0] for found in read if found[1] == "SCAN"]
        # By its primary key a table is only asked for single trials.
        assert all("trial_id=?" in found[3] for found in read if "autoindex" in found[3])
