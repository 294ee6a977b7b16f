from __future__ import annotations

from pathlib import Path

from quota.projections.view_columns import views_page

PAGE = Path(__file__).parents[2] / "docs" / "sql-views.md"


def test_page_says_what_the_columns_mean() -> None:
    assert PAGE.read_text() == views_page()
