# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Start a collector and this machine's agent, and wait for one figure: `python -m tests.quick.smoke`."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.stack import Stack, get

TICK: Final = {
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
}
FIGURE: Final = re.compile(r"^veilleuse_energy_joules_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)


def main() -> int:
    """Return 0 when a figure of this machine came back; fails with the logs of both programs."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), TICK) as stack:
        collector = stack.start_collector()
        stack.enrol()
        stack.start("veilleuse-agent", "run")
        stack.wait_for(lambda: joules(stack) > 0, "a figure of this machine", process=collector)
        print(f"smoke: {joules(stack):.0f} J of this machine")
    return 0


def joules(stack: Stack) -> float:
    """Return the energy on /metrics, in joules."""
    return sum(float(value) for value in FIGURE.findall(get(f"{stack.url}metrics")))


if __name__ == "__main__":
    sys.exit(main())
