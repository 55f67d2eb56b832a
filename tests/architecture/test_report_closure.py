# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the modules behind the emissions report: a reader of one figure has this much to read.

report_modules.txt lists every module of ours that `reports.emissions` loads, without packages that only have
a docstring. `python -m tests.architecture.test_report_closure` prints it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

LIST: Final = Path(__file__).with_name("report_modules.txt")
MOST: Final = 90
PROGRAM: Final = """
import ast, sys
import veilleuse.collector.reports.emissions
for name, module in sorted(sys.modules.items()):
    if name.startswith("veilleuse.") and len(ast.parse(open(module.__file__).read()).body) > 1:
        print(name)
"""


def closure() -> list[str]:
    """Return the modules that a fresh interpreter has loaded for the report."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_modules_behind_the_emissions_report_are_these():
    """They are the committed list, and at most 90."""
    found = closure()
    assert len(found) <= MOST, f"{len(found)} modules stand behind the emissions report, {MOST} may"
    differing = sorted(set(found) ^ set(LIST.read_text(encoding="utf-8").split()))
    assert not differing, f"add to tests/architecture/report_modules.txt, or delete from it: {differing}"


if __name__ == "__main__":
    print("\n".join(closure()))
