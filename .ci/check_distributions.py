"""Check that the wheel and the source distribution hold what they should, and the wheel nothing besides."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_SOURCES = {
    "quota": "quota",
    "quota_local": "adapters/quota_local",
    "quota_s3": "adapters/quota_s3",
    "quota_migrations": "migrations/quota_migrations",
}
_ENTRY_POINTS = {
    "console_scripts": {"ckpt-quota": "quota.cli:main"},
    "quota.stores": {"file": "quota_local:open_store", "s3": "quota_s3:open_store"},
}
_SDIST_NEEDS = {
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "alembic.ini",
    "pyproject.toml",
    "tests/conftest.py",
}


def _expected_in_wheel() -> set[str]:
    """Return every file that Git knows below the packages, be it code, revision, data or type marker."""
    expected = set()
    for package, source in _SOURCES.items():
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--", source],  # noqa: S607 - Git is wherever the machine has it
            cwd=_ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        expected |= {package + path.removeprefix(source) for path in listing.split("\0") if path}
    return expected


def _check_same(what: str, found: object, expected: object) -> None:
    if found != expected:
        sys.exit(f"{what}: found {found}, expected {expected}")


def check_wheel(path: Path) -> None:
    """Check packages, files and entry points."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        (dist_info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        entry_points = configparser.ConfigParser(delimiters=("=",))
        entry_points.read_string(wheel.read(f"{dist_info}/entry_points.txt").decode())
    contents = {name for name in names if not name.startswith(f"{dist_info}/")}
    _check_same("top-level packages", {name.split("/")[0] for name in contents}, set(_SOURCES))
    expected = _expected_in_wheel()
    _check_same("files missing from the wheel", sorted(expected - contents), [])
    _check_same("files in the wheel that Git does not know", sorted(contents - expected), [])
    for package in _SOURCES:
        _check_same(f"{package}/py.typed is there", f"{package}/py.typed" in contents, expected=True)
    for needed in ("quota_migrations/env.py", "quota_migrations/script.py.mako"):
        _check_same(f"{needed} is there", needed in contents, expected=True)
    revisions = [name for name in contents if Path(name).match("quota_migrations/versions/[0-9]*.py")]
    _check_same("there are revisions", bool(revisions), expected=True)
    found = {section: dict(entry_points[section]) for section in entry_points.sections()}
    _check_same("entry points", found, _ENTRY_POINTS)
    sys.stdout.write(f"{path.name}: {len(contents)} files, {len(revisions)} revisions\n")


def check_sdist(path: Path) -> None:
    """Check that whoever gets the sources alone can build, read and test."""
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    _check_same("files missing from the source distribution", sorted(_SDIST_NEEDS - names), [])
    sys.stdout.write(f"{path.name}: {len(names)} entries\n")


def main() -> None:
    """Check the one wheel and the one source distribution in the folder given."""
    folder = Path(sys.argv[1])
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)


if __name__ == "__main__":
    main()
