# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read the trees of kernel files in tests/fixtures/sys, and write small ones."""

from __future__ import annotations

from pathlib import Path

from veilleuse.agent.ports import SourceContext

TREES = Path(__file__).parents[1] / "fixtures" / "sys"
SHORT_RANGE = 65_532_610_987
LONG_RANGE = 262_143_328_850
"""SHORT_RANGE and LONG_RANGE are the two ranges of docs/sources.md, 65.5 and 262 kJ, in microjoules."""


def context(tree: Path, virtualisation: str = "none", helper: Path | str = "") -> SourceContext:
    """Return the context of a source that reads this tree."""
    return SourceContext(f"{tree}/sys", f"{tree}/proc", virtualisation, helper=str(helper))


def put(tree: Path, file: str, text: object) -> Path:
    """Write one kernel file below sys/; return its path."""
    path = tree / "sys" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


def zone(tree: Path, number: str, name: str, microjoules: int, around: int = LONG_RANGE) -> Path:
    """Write a powercap zone into the class folder; return its folder. `number`: `0`, `0:1` or `-mmio:0`."""
    number = number if number.startswith("-") else f":{number}"
    folder = f"class/powercap/intel-rapl{number}"
    put(tree, f"{folder}/name", name)
    put(tree, f"{folder}/max_energy_range_uj", around)
    return put(tree, f"{folder}/energy_uj", microjoules).parent
