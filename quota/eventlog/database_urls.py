"""Which databases can serve, by their URLs."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from quota.domain.mounts import parse_mounts
from quota.errors import SettingsRefused

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "beegfs",
        "gpfs",
        "ncpfs",
    }
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "orangefs"}
)

_SUPPORTED = ("sqlite", "postgresql")


def parse_url(url: str) -> URL:
    """Check a database URL.

    Raises:
        SettingsRefused: it is not one of SQLite or PostgreSQL, or names a SQLite file that cannot serve.
    """
    advice = "use sqlite:///quota.db or postgresql+psycopg://user@host/name"
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        shown = parsed.render_as_string(hide_password=True)
        shown.encode()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise SettingsRefused("database", "url", url, f"this is no database URL; {advice}") from error
    if backend not in _SUPPORTED:
        raise SettingsRefused("database", "url", shown, f"{backend} is not supported; {advice}")
    if backend == "postgresql":
        if not _may_name_a_host(parsed.host or ""):
            raise SettingsRefused("database", "url", shown, f"no host can be called {parsed.host}; {advice}")
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.host is not None:
        reason = "a SQLite URL has three slashes before a relative path, and four before an absolute one"
        raise SettingsRefused("database", "url", shown, f"{reason}; {advice}")
    if parsed.query:
        raise SettingsRefused(
            "database", "url", shown, f"a SQLite URL takes no options here, so leave out what follows its `?`; {advice}"
        )
    path = sqlite_path(parsed)
    if path is None:
        raise SettingsRefused("database", "url", shown, f"the log must outlive the process; {advice}")
    kind = file_system_of(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        reason = f"it lies on a network file system ({kind}), where SQLite's locks do not hold; use PostgreSQL"
        raise SettingsRefused("database", "url", shown, reason)
    return parsed.set(drivername="sqlite+pysqlite", database=str(path))


def _may_name_a_host(text: str) -> bool:
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return True


def sqlite_path(url: URL) -> Path | None:
    """Return the file that a SQLite URL names, wherever the process goes later; None where it names none."""
    name = url.database or ""
    if not name or name == ":memory:" or name.startswith("file:") or "\0" in name:
        return None
    return Path(name).absolute()


def file_system_of(path: Path) -> str:
    """Return the type of the file system that `path` lies on, or would; empty where the system does not say."""
    real = PurePosixPath(os.path.realpath(path))
    try:
        table = _MOUNTS.read_bytes()
    except OSError:
        return ""
    around = [mount for mount in parse_mounts(table) if real.is_relative_to(mount.point)]
    # The last one of those with the longest name: it hides the others.
    around.sort(key=lambda mount: len(PurePosixPath(mount.point).parts))
    return around[-1].kind if around else ""
