# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make a fake `ipmitool` or `ipmi-dcmi`: a shell script that prints recorded output, hangs, or prints without
end."""

from __future__ import annotations

import shlex
from pathlib import Path

FIXTURES = Path(__file__).parents[2] / "fixtures" / "ipmi"
LONG_SECONDS = 600

_SCRIPT = """#!/bin/sh
# A fake {tool}: does what the file beside it says.
here={here}
printf '%s\\n' "$*" >>"$here.asked"
env >"$here.environment"
echo $$ >>"$here.pids"
case "$(cat "$here.does")" in
  hang) sleep {long} ;;
  child) sleep {long} & echo $! >>"$here.pids" ;;
  flood) while :; do echo "Instantaneous power reading: 214 Watts"; done ;;
  fail) cat "$here.says" >&2; exit 1 ;;
  *) cat "$here.says" ;;
esac
"""


class FakeTool:
    """One of the two tools, in a folder of its own."""

    def __init__(self, folder: Path, tool: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.tool = tool
        self.path = folder / tool
        self.path.write_text(_SCRIPT.format(tool=tool, here=shlex.quote(str(self.path)), long=LONG_SECONDS))
        self.path.chmod(0o755)
        self.prints("activated")

    def prints(self, name: str) -> None:
        """Print a recorded output from now on; one without power is printed as an error, with exit code 1."""
        text = (FIXTURES / f"{self.tool}_{name}.txt").read_text()
        self.says(text, does="say" if "Watts" in text else "fail")

    def says(self, text: str, does: str = "say") -> None:
        """Use this text from now on; `does`: say, fail, hang, child or flood."""
        Path(f"{self.path}.says").write_text(text)
        Path(f"{self.path}.does").write_text(does)

    def asked(self) -> list[str]:
        """Return the arguments of each call, one string per call."""
        return self._lines("asked")

    def environment(self) -> dict[str, str]:
        """Return the environment of the last call."""
        return dict(line.split("=", 1) for line in self._lines("environment"))

    def pids(self) -> list[int]:
        """Return the process ids of all calls and of their children."""
        return [int(line) for line in self._lines("pids")]

    def _lines(self, what: str) -> list[str]:
        file = Path(f"{self.path}.{what}")
        return file.read_text().splitlines() if file.exists() else []
