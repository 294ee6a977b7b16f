"""Sizes and per cents as people write them."""

from __future__ import annotations

import re
from decimal import Decimal

_SIZE = re.compile(r"(?P<amount>[0-9]+(?:\.[0-9]+)?)\s*(?:(?P<prefix>[kKMGTP])?(?P<binary>i)?B)?")
_PREFIXES = "KMGTP"
_PERCENT = re.compile(r"(?P<amount>[0-9]{1,3})\s*%")


def parse_size(text: str) -> int:
    """Return the bytes that `200GB`, `1.5 TiB` or a bare number of bytes says; part of a byte is dropped.

    Units with an `i` are powers of 1,024, those without powers of 1,000.

    Raises:
        ValueError: it is none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match["binary"] and not match["prefix"]):
        message = "write a number and a unit: 500MB, 200GB, 1.5TiB, or bytes"
        raise ValueError(message)
    power = 1 + _PREFIXES.index(match["prefix"].upper()) if match["prefix"] else 0
    return int(Decimal(match["amount"]) * (1_024 if match["binary"] else 1_000) ** power)


def parse_percent(text: str) -> int:
    """Return the whole per cents that `30%` says.

    Raises:
        ValueError: it says none.
    """
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        message = "write whole per cents: 30%"
        raise ValueError(message)
    return int(match["amount"])
