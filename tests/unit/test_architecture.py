"""What keeps files readable and the tree tidy; the layers themselves are import-linter's."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 70
TOP_LEVEL = {
    ".ci",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "adapters",
    "alembic.ini",
    "docs",
    "migrations",
    "pyproject.toml",
    "quota",
    "tests",
    "PKG-INFO",  # in a source distribution
}
# Put together here, so that this file does not contain what it looks for.
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
EXIT_CODE = re.compile(r"^_?(?:FAILED|USAGE|EXCEEDED)\b[^=(]*=|\bExit\(\d")
SLEEP = re.compile(r"\btime\.sl" + r"eep\(|\bfrom time import .*\bsleep\b")


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions_over(limit: int, source: str) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > limit
    ]


def lines_with(pattern: re.Pattern[str], source: str) -> list[int]:
    return [number for number, line in enumerate(source.splitlines(), start=1) if pattern.search(line)]


def offences(pattern: re.Pattern[str], files: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number in lines_with(pattern, path.read_text(encoding="utf-8"))
    ]


def strangers(names: set[str], ignored: list[str]) -> set[str]:
    """Names that are neither allowed nor ignored by Git."""
    return {name for name in names - TOP_LEVEL if not any(fnmatch(name, pattern) for pattern in ignored)}


def test_product_files_stay_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in python_files("quota", "adapters")
    }
    assert lengths, "no files found, so nothing was checked"
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FILE} == {}


def test_product_functions_stay_short() -> None:
    too_long = {
        str(path.relative_to(ROOT)): names
        for path in python_files("quota", "adapters")
        if (names := functions_over(MOST_LINES_OF_A_FUNCTION, path.read_text(encoding="utf-8")))
    }
    assert too_long == {}


def test_nothing_is_marked_as_unfinished() -> None:
    assert offences(UNFINISHED, python_files("quota", "adapters", "migrations", "tests", ".ci")) == []


def test_nothing_sleeps() -> None:
    # What waits takes a clock or an event, so that a test can move it and a signal can end it.
    assert offences(SLEEP, python_files("quota", "adapters", "migrations", "tests", ".ci")) == []


def test_exit_codes_are_named_in_one_place() -> None:
    named = {place.partition(":")[0] for place in offences(EXIT_CODE, python_files("quota/cli"))}
    assert named == {"quota/cli/exit_codes.py"}


def test_the_top_level_holds_only_what_belongs_there() -> None:
    ignored = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]
    assert strangers({path.name for path in ROOT.iterdir()}, ignored) == set()


def test_a_function_at_the_limit_passes_and_one_line_more_does_not() -> None:
    source = "class A:\n    async def inner(self):\n        x = 1\n        return x\n"
    assert functions_over(3, source) == []
    assert functions_over(2, source) == ["inner"]


@pytest.mark.parametrize("mark", ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])
def test_marks_are_seen_as_words_only(mark: str) -> None:
    assert lines_with(UNFINISHED, f"x = 1\n# {mark}: later\n") == [2]
    assert lines_with(UNFINISHED, f"name = 'A{mark}B'\n") == []


def test_a_sleep_is_seen_however_it_is_imported() -> None:
    assert lines_with(SLEEP, "import time\ntime.sl" + "eep(1)\n") == [2]
    assert lines_with(SLEEP, "from time import monotonic, sl" + "eep\n") == [1]
    assert lines_with(SLEEP, "clock.sl" + "eep(1)\nfrom time import monotonic\n") == []


def test_a_stray_file_is_seen_and_an_ignored_one_is_not() -> None:
    assert strangers({"quota", "notes.txt", "quota.db-wal"}, ["quota.db-*"]) == {"notes.txt"}
