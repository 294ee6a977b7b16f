"""Reads what the README and other pages show: fenced blocks that stand below an HTML comment with their name."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def block(name: str, page: Path = README) -> str:
    found = re.search(rf"<!-- {name} -->\n```\w+\n(?P<text>.*?)```", page.read_text(), re.DOTALL)
    assert found is not None, f"{page} has no block {name}"
    return found["text"]
