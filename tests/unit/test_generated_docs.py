"""Pages that are made from the code say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from quota.domain.events import RECORDER_EVENTS
from quota.domain.wire_page import wire_page
from quota.projections.view_columns import views_page
from roles import rights_table, roles_table

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("page", "made"), [("sql-views.md", views_page), ("wire-form.md", wire_page)])
def test_page_is_what_the_code_makes(page: str, made: object) -> None:
    assert callable(made)
    assert (DOCS / page).read_text() == made()


def test_every_event_that_a_recorder_may_send_is_on_its_page() -> None:
    for name in RECORDER_EVENTS:
        assert f"\n## {name}\n" in wire_page()


@pytest.mark.parametrize("table", [roles_table, rights_table])
def test_tables_of_roles_are_what_is_tried_and_granted(table: object) -> None:
    assert callable(table)
    assert f"\n\n{table()}\n\n" in (DOCS / "roles.md").read_text()
