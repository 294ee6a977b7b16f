"""Print the test command that the README gives, so that CI runs the very line that readers run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

_MARKED_LINE = re.compile(r"^<!-- test-command -->\n+```bash\n(?P<line>[^\n]+)\n```$", re.MULTILINE)


def main() -> None:
    """Print the one line, or say why there is none."""
    readme = Path(__file__).resolve().parents[1] / "README.md"
    commands = _MARKED_LINE.findall(readme.read_text(encoding="utf-8"))
    if len(commands) != 1:
        sys.exit(
            "README.md must have one test command, a single bash line below <!-- test-command -->;"
            f" it has {len(commands)}"
        )
    sys.stdout.write(f"{commands[0]}\n")


if __name__ == "__main__":
    main()
