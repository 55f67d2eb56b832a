# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Trees of kernel files: those of tests/fixtures/sys, and small ones that a test writes."""

from __future__ import annotations

from pathlib import Path

from veilleuse.agent.ports import SourceContext

TREES = Path(__file__).parents[1] / "fixtures" / "sys"
SHORT_RANGE = 65_532_610_987
LONG_RANGE = 262_143_328_850
"""The two ranges of docs/sources.md: 65.5 and 262 kJ, in µJ."""


def context(tree: Path, virtualisation: str = "none", helper: Path | str = "") -> SourceContext:
    """A tree as a source sees it."""
    return SourceContext(f"{tree}/sys", f"{tree}/proc", virtualisation, helper=str(helper))


def put(tree: Path, file: str, text: object) -> Path:
    """Write one kernel file below sys/."""
    path = tree / "sys" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


def zone(tree: Path, number: str, name: str, microjoules: int, around: int = LONG_RANGE) -> Path:
    """One powercap zone, flat in the class folder; `number` as in `0`, `0:1`, `-mmio:0`. Its folder."""
    number = number if number.startswith("-") else f":{number}"
    folder = f"class/powercap/intel-rapl{number}"
    put(tree, f"{folder}/name", name)
    put(tree, f"{folder}/max_energy_range_uj", around)
    return put(tree, f"{folder}/energy_uj", microjoules).parent
