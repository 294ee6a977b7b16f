"""Between events and the text in the log."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from quota.domain.events import EVENT_TYPES, Event
from quota.domain.refusal import Refusal
from quota.domain.wire import converted_from, finite_or_named
from quota.errors import LogCorrupt

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Lifts an event's data by one schema version."""

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""By type and the version that is lifted. Every version that was ever released stays readable."""

_ADVICE = "`ckpt-quota audit verify` names what was changed"
_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode(payload: Event) -> str:
    """Return the canonical JSON text of an event's data: equal events give equal text."""
    metric = getattr(payload, "metric", None)
    if isinstance(metric, float) and not math.isfinite(metric):
        # JSON has no such number: SQLite would make it NULL, and PostgreSQL refuse it.
        return _ENCODER.encode(msgspec.to_builtins(payload) | {"metric": finite_or_named(metric)}).decode()
    return _ENCODER.encode(payload).decode()


def encode_plain(value: msgspec.Struct | tuple[float, ...]) -> str:
    """Return the canonical JSON text of a part of an event."""
    return _ENCODER.encode(value).decode()


class Codec:
    """Decodes stored data, lifting what older software wrote.

    Args:
        types: Event classes by type.
        upcasters: By type and version.
    """

    def __init__(
        self,
        types: Mapping[str, type[Event]] = EVENT_TYPES,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> None:
        self._types = types
        self._upcasters = upcasters
        self._decoders = {name: msgspec.json.Decoder(cls) for name, cls in types.items()}

    def decode(self, type_name: str, schema_version: int, text: str) -> Event:
        """Turn a stored row's data into an event of the present version.

        Raises:
            LogCorrupt: the type is unknown, the version is newer than this software, or the text is no such event.
        """
        cls = self._types.get(type_name)
        if cls is None:
            raise LogCorrupt(f"the log holds an event of type {type_name!r}, unknown to this software; upgrade it")
        if schema_version == cls.SCHEMA_VERSION:
            try:
                return self._decoders[type_name].decode(text)
            except msgspec.DecodeError:
                # The one thing that the fast way cannot read is a metric that is no JSON number.
                return _decode_slowly(cls, text)
        return self._lift(cls, schema_version, text)

    def _lift(self, cls: type[Event], schema_version: int, text: str) -> Event:
        if schema_version > cls.SCHEMA_VERSION:
            raise LogCorrupt(
                f"the log holds {cls.TYPE} of schema version {schema_version}, this software reads up to "
                f"{cls.SCHEMA_VERSION}; upgrade it"
            )
        data = json.loads(text)
        for version in range(schema_version, cls.SCHEMA_VERSION):
            upcaster = self._upcasters.get((cls.TYPE, version))
            if upcaster is None:
                raise LogCorrupt(f"no upcaster lifts {cls.TYPE} from schema version {version}")
            data = upcaster(data)
        return _decode_slowly(cls, json.dumps(data))


def _decode_slowly(cls: type[Event], text: str) -> Event:
    try:
        payload = converted_from(cls, json.loads(text))
    except json.JSONDecodeError as error:
        raise LogCorrupt(f"the log holds {cls.TYPE} whose data is no JSON: {error}; {_ADVICE}") from error
    if isinstance(payload, Refusal):
        raise LogCorrupt(
            f"the log holds {cls.TYPE} whose data it cannot mean: `{payload.field}` is {payload.value!r}: "
            f"{payload.reason}; {_ADVICE}"
        )
    return payload
