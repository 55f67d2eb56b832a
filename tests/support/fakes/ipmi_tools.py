# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A fake `ipmitool` and a fake `ipmi-dcmi`: shell scripts that print what the real ones printed, or hang, or
flood."""

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
    """One of the two, in a folder of its own."""

    def __init__(self, folder: Path, tool: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.tool = tool
        self.path = folder / tool
        self.path.write_text(_SCRIPT.format(tool=tool, here=shlex.quote(str(self.path)), long=LONG_SECONDS))
        self.path.chmod(0o755)
        self.prints("activated")

    def prints(self, name: str) -> None:
        """A recorded output; errors go where errors go."""
        text = (FIXTURES / f"{self.tool}_{name}.txt").read_text()
        self.says(text, does="say" if "Watts" in text else "fail")

    def says(self, text: str, does: str = "say") -> None:
        """This text from now on; `does`: say, fail, hang, child, flood."""
        Path(f"{self.path}.says").write_text(text)
        Path(f"{self.path}.does").write_text(does)

    def asked(self) -> list[str]:
        """The arguments of each call."""
        return self._lines("asked")

    def environment(self) -> dict[str, str]:
        """Of the last call."""
        return dict(line.split("=", 1) for line in self._lines("environment"))

    def pids(self) -> list[int]:
        """Of all that was started."""
        return [int(line) for line in self._lines("pids")]

    def _lines(self, what: str) -> list[str]:
        file = Path(f"{self.path}.{what}")
        return file.read_text().splitlines() if file.exists() else []
