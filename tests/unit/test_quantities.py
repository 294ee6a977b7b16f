"""Sizes and per cents are read as people write them, and as nothing else."""

from __future__ import annotations

import pytest

from quota.domain.quantities import parse_percent, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("1KiB", 1_024),
        ("500MB", 500_000_000),
        ("200 GB", 200_000_000_000),
        ("1.5TiB", 3 * 2**39),
        (" 2PB ", 2 * 10**15),
        # In doubles this would be one byte less.
        ("9007199254740993", 9_007_199_254_740_993),
        ("0.0000001kB", 0),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "GB", "-1GB", "1e9", "200G", "1iB", "1 000", "1,5GB", "ten", "1EB", "0x10", "nan", "\u0661GB"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and a unit"):
        parse_size(text)


def test_per_cents() -> None:
    assert [parse_percent(text) for text in ("30%", " 5 %", "100%")] == [30, 5, 100]


@pytest.mark.parametrize("text", ["", "30", "%", "-1%", "12.5%", "1e1%", "30%%", "1000%", "\u0663%"])
def test_what_is_no_per_cent(text: str) -> None:
    with pytest.raises(ValueError, match="write whole per cents"):
        parse_percent(text)
