"""With which code commands end: what can be used at no time is wrong usage, what is not so by now has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from quota.cli.exit_codes import FAILED, USAGE

if TYPE_CHECKING:
    from acceptance.commands import Run

MISUSES = {
    "limit set --checkpoints 5 --low 9": "the low watermark must not be above the high one",
    "limit set --checkpoints 5 --scope team:nlp": "a scope is one of",
    "limit set --bytes 5XB": "write a number and a unit",
    "reserve set --checkpoints 5 --scope deployment": "a reserve is for",
    "pin --scope nlp": "a scope is one of",
    "store add s3:/bucket/hpo/": "a URI has more slashes; write s3://bucket/hpo/",
    "store add file:/scratch": "a URI has more slashes; write file:///scratch",
    "limit set --bytes 1GB --scope store:s3:/bucket/hpo/": "a URI has more slashes; write s3://bucket/hpo/",
}
FAILURES = {
    "store add nowhere": "there is no such directory",
    "store remove /nowhere": "there is none",
    "restore nonsense": "this is no decision's id",
    "experiment show nobody": "there is none",
    "ingest nowhere.jsonl": "there is none that can be read",
}


@pytest.mark.parametrize(
    ("command", "told", "code"),
    [(command, told, USAGE) for command, told in MISUSES.items()]
    + [(command, told, FAILED) for command, told in FAILURES.items()],
)
def test_wrong_usage_is_told_from_what_fails(run: Run, command: str, told: str, code: int) -> None:
    assert run("db", "upgrade").code == 0
    answer = run(*command.split())
    assert (answer.code, answer.out) == (code, "")
    assert told in " ".join(answer.err.split())
