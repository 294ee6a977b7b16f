"""Settings: from the command line, then `QUOTA_*` variables, then a TOML file; parsed once."""

from __future__ import annotations

import getpass
import os
import re
import socket
import tomllib
from datetime import timedelta
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from quota.domain.identifiers import id_problem
from quota.domain.manifest import CLOCKS_APART
from quota.domain.quantities import parse_size
from quota.errors import SettingsRefused

DEFAULT_DATABASE = "sqlite:///quota.db"
_PREFIX = "QUOTA_"
CONFIG_VARIABLE = "QUOTA_CONFIG"
_OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "QUOTA_TRACEBACK"})
_STORES_GROUP = "quota.stores"
DEFAULT_CONFIG = Path("quota.toml")

LONGEST = timedelta(days=36_500)
"""Beyond this a time that is added to today's leaves the calendar."""

_LONGEST_JITTER = timedelta(hours=1)
_LONGEST_TOLERANCE = timedelta(days=1)

_DURATION = re.compile(r"(?P<amount>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_duration(text: object) -> object:
    """Turn `90s`, `15m`, `1h` or `7d` into a duration; `0` is one too, and no other number without a unit."""
    if isinstance(text, timedelta):
        return text
    if text in (0, "0") and text is not False:
        return timedelta()
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        message = "write a number and a unit: 90s, 15m, 1h or 7d"
        raise ValueError(message)
    seconds = float(match["amount"]) * _SECONDS[match["unit"]]
    if seconds > LONGEST.total_seconds():
        message = f"at most {LONGEST.days} days"
        raise ValueError(message)
    return timedelta(seconds=seconds)


def _number(value: object) -> object:
    """Refuse what Python and TOML take for a number, and people do not."""
    if isinstance(value, bool):
        message = "write a number"
        raise ValueError(message)  # noqa: TRY004 - of a TypeError pydantic makes a fault of ours
    return value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else _number(value)


def check_actor(actor: str) -> str:
    """Refuse a name that the log could not keep."""
    problem = id_problem(actor)
    if problem is not None:
        raise ValueError(problem)
    return actor


def default_actor() -> str:
    """Return `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Settings(BaseSettings):
    """What a process works with; frozen.

    Attributes:
        database: SQLAlchemy URL of the database.
        actor: In whose name events are recorded.
        policy: The policy by which sweeps choose.
        approx_steps: Most better arrivals that `syne-tune` and `expected-cost` follow.
        prior_mean: Mean of the estimators' prior.
        prior_size: Its effective sample size.
        min_data_at_rung: From how many data on a rung's own estimator is used.
        keep_completed: How many completed trials of an experiment, the best ones, keep their newest checkpoint.
        min_age: How old a checkpoint is at least before it is evicted.
        finished_retention: For how long the checkpoints of a finished experiment are kept before they cost nothing.
        trash_retention: For how long an eviction can be undone; 0 deletes at once.
        most_evictions: After how many evictions a sweep leaves the rest to the next one.
        most_evicted_bytes: After how many bytes it does.
        orphans_older_than: From which age on what belongs to no checkpoint is taken for an orphan.
        clock_tolerance: How much later than it was saved a checkpoint may seem written and still be evicted.
        lease_term: After how long another sweeper takes over from one that says nothing.
        sweep_schedule: When the daemon sweeps: an interval such as `1m`, or five fields as in a crontab, in UTC.
        purge_schedule: When it deletes what is due in the trash; a sweep does so too.
        reconcile_schedule: When it compares the stores with the log, and records what differs.
        catch_up_schedule: When it catches the projections up, so that the views show what has been recorded.
        schedule_jitter: By how much at most each of these times is delayed at random.
        log_format: `text`, or `json` for one object a line.
        log_level: From which level on something is logged.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", strict=False)

    database: str = DEFAULT_DATABASE
    actor: Annotated[str, AfterValidator(check_actor)] = Field(default_factory=default_actor)
    policy: Literal["syne-tune", "expected-cost", "by_level", "random"] = "expected-cost"
    approx_steps: Annotated[int, BeforeValidator(_number), Field(ge=1, le=1_000)] = 25
    prior_mean: Annotated[float, BeforeValidator(_number), Field(gt=0, lt=1)] = 0.33
    prior_size: Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)] = 2.0
    min_data_at_rung: Annotated[int, BeforeValidator(_number), Field(ge=0)] = 5
    keep_completed: Annotated[int, BeforeValidator(_number), Field(ge=0, le=2**53)] = 1
    min_age: Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(), le=LONGEST)] = timedelta()
    finished_retention: Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(), le=LONGEST)] = (
        timedelta(days=30)
    )
    trash_retention: Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(), le=LONGEST)] = (
        timedelta(hours=1)
    )
    most_evictions: Annotated[int, BeforeValidator(_number), Field(ge=1, le=2**53)] = 10_000
    most_evicted_bytes: Annotated[int, BeforeValidator(_size), Field(ge=1, le=2**63 - 1)] = 10**13
    orphans_older_than: Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(), le=LONGEST)] = (
        timedelta(days=1)
    )
    lease_term: Annotated[timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(seconds=1), le=LONGEST)] = (
        timedelta(minutes=1)
    )
    clock_tolerance: Annotated[
        timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(), le=_LONGEST_TOLERANCE)
    ] = CLOCKS_APART
    sweep_schedule: str = "1m"
    purge_schedule: str = "5m"
    reconcile_schedule: str = "1d"
    catch_up_schedule: str = "10s"
    schedule_jitter: Annotated[
        timedelta, BeforeValidator(parse_duration), Field(ge=timedelta(), le=_LONGEST_JITTER)
    ] = timedelta()
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, file."""
        path = _config_path()
        toml = () if path is None else (TomlConfigSettingsSource(settings_cls, path),)
        return (init_settings, env_settings, *toml)


def _config_path() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def load_settings(**given: Any) -> Settings:  # noqa: ANN401 - checked by the settings' own types
    """Gather the settings.

    Args:
        **given: What the command line said; None where it said nothing.

    Raises:
        SettingsRefused: a file cannot be read, or a key or value is refused.
    """
    path = _config_path()
    _refuse_unreadable(path)
    _refuse_unknown_variables()
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(Settings.model_fields)
            raise SettingsRefused(
                f"settings file {path}", name, first["input"], f"no such key; known are {known}"
            ) from error
        message = _in_words(name, first)
        raise SettingsRefused("settings", name, first["input"], message) from error


def _in_words(name: str, error: ErrorDetails) -> str:
    """Say why a value is refused; the bounds of durations as people write them."""
    field = Settings.model_fields.get(name)
    for bound, words in (("ge", "at least"), ("le", "at most")):
        limits = [getattr(one, bound, None) for one in (field.metadata if field else ())]
        if bound in error.get("ctx", {}) and any(isinstance(limit, timedelta) for limit in limits):
            seconds = next(limit.total_seconds() for limit in limits if isinstance(limit, timedelta))
            return f"{words} {seconds:.0f}s"
    return error["msg"].removeprefix("Value error, ")


def _refuse_unknown_variables() -> None:
    """Refuse a variable that would be taken for set: a name that is misspelled sets nothing."""
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields} | _OTHER_VARIABLES
    unknown = sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in known)
    if not unknown:
        return
    # Adapters of stores have variables of their own, named for their scheme.
    own = tuple(f"{_PREFIX}{point.name.upper()}_" for point in entry_points(group=_STORES_GROUP))
    for name in unknown:
        if not name.startswith(own):
            near = get_close_matches(name, known, n=1)
            advice = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
            raise SettingsRefused("environment", name, os.environ[name], f"no such variable{advice}")


def _refuse_unreadable(path: Path | None) -> None:
    if path is None:
        return
    thing = f"settings file {path}"
    try:
        tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsRefused(thing, "", str(path), f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsRefused(thing, "", str(path), "it is no UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsRefused(thing, "", str(path), f"it is no TOML: {error}") from error
