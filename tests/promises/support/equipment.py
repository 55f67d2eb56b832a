# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the file for NumEcoEval of a running collector into the one table of P16, beside the report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.promises.support.outlets import Figure, OneTable
from tests.support.numecoeval import equipment, faults, millijoules


class _Period(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def first(self) -> str: ...
    @property
    def end(self) -> str: ...


class _Fleet(Protocol):
    folder: Path
    table: OneTable

    def write_reports(self, reports: Mapping[str, Sequence[str]]) -> None: ...


def compare_equipment(fleet: _Fleet, grouping: Sequence[str], periods: Iterable[_Period]) -> None:
    """Every row is valid by G4IT's rules, and each group has the energy of the report in millijoules.

    `grouping`: that of the report, by entity and class, which is written already.
    """
    named = {one: f"numecoeval-{one.first}.csv" for one in periods}
    fleet.write_reports(
        {name: ("report", "numecoeval", "--from", one.first, "--to", one.end) for one, name in named.items()}
    )
    for one, name in named.items():
        content = (fleet.folder / name).read_bytes()
        assert faults(content) == [], name
        report = fleet.folder / f"emissions-{one.first}-{grouping[1].replace(',', '+')}.json"
        told, written = Counter[str](), Counter[str]()
        for row in json.loads(report.read_text())["rows"]:
            told[f"{row.get('entity', '')} · {row['device_class']}"] += row["energy_millijoules"]
        for item in equipment(content):
            written[f"{item['nomEntite']} · {item['modele']}"] += millijoules(item)
        question = f"equipment, {one.name}"
        fleet.table.asked[question] = {"command, JSON", "NumEcoEval file"}
        for outlet, energies in (("command, JSON", told), ("NumEcoEval file", written)):
            for group, energy in energies.items():
                fleet.table.put(outlet, Figure(question, group, "energy_millijoules"), str(energy))
