# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""External screens are a class of their own in a statement, counted once, without further machines."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from tests.support.memory_store import DAY, HOUR, MemoryReader, gather, host
from tests.support.stored_sums import DerivedRow
from veilleuse.collector.account.observations import observed_periods
from veilleuse.collector.account.statement import StatementTerms, build_statement
from veilleuse.collector.factors.book import choose
from veilleuse.collector.model.figures import EmissionsRow
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DerivedCell
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

MONDAY = date(2026, 3, 2)
FIRST, END = date(2026, 3, 1), date(2026, 4, 1)
NOW = 1_775_000_000_000
MACHINE, SCREEN = 300_000, 125_000


def fleet(machines: int = 3, screens: int = 3, population: Population = Population.SERVER) -> MemoryReader:
    """Return machines on for a day; the first ones have a screen on for two hours."""
    reader = MemoryReader([host(n, DeviceClass.SFF, population) for n in range(1, machines + 1)])
    for number in range(1, machines + 1):
        reader.state(number, MONDAY, Band.CLOSED, State.ON_IDLE, DAY)
        reader.energy(number, MONDAY, Band.CLOSED, State.ON_IDLE, Method.LOAD_MODELLED, DAY, MACHINE, 60_000)
        if number <= screens:
            cell = DerivedCell(
                Band.CLOSED, State.ON_IDLE, Supply.AC, Method.LOAD_MODELLED, 2 * HOUR, SCREEN, 25_000
            )
            reader.screen_rows.append(DerivedRow(HostId(number), Grain.DAY, MONDAY.toordinal(), cell))
    return reader


def rows(reader: MemoryReader, *dimensions: str, k: int = 1) -> tuple[list[EmissionsRow], list[EmissionsRow]]:
    """Return (rows, totals) of March."""
    question = Query(FIRST, END, dimensions, k, now_unix_milliseconds=NOW, screens=True)
    made = build_statement(observed_periods(gather(reader, question)), StatementTerms(choose, "real"))
    return list(made.rows), list(made.totals)


def test_screens_have_a_row_of_their_own_and_the_total_both_once():
    """900,000 mJ of machines, 375,000 mJ of screens, three machines, and the machines' coverage."""
    found, (total,) = rows(fleet(), "device_class")
    energies = {row.key.device_class: row.energy.energy_millijoules for row in found}
    assert energies == {"sff": 3 * MACHINE, "monitor": 3 * SCREEN}
    assert (total.energy.energy_millijoules, total.activity.n) == (3 * (MACHINE + SCREEN), 3)
    monitor = next(row for row in found if row.key.device_class == "monitor")
    assert (monitor.activity.n, monitor.activity.coverage_states, monitor.energy.kwh_measured) == (3, None, 0)
    (alone,), _ = rows(replace(fleet(), screen_rows=[]), "device_class")
    assert total.activity.coverage_energy == alone.activity.coverage_energy


def test_screens_of_a_machine_that_enrolled_meanwhile_wait():
    """They wait as its own energy does; a week's part without energy and time leaves no mark."""
    reader = fleet(screens=0)
    cell = DerivedCell(Band.OPEN, State.ON_IDLE, Supply.AC, Method.LOAD_MODELLED, 0, 0, 0)
    for number, grain, day in ((9, Grain.DAY, MONDAY), (1, Grain.WEEK, date(2026, 3, 30))):
        energy = SCREEN if number == 9 else 0
        row = DerivedRow(HostId(number), grain, day.toordinal(), cell._replace(energy_millijoules=energy))
        reader.screen_rows.append(row)
    found, (total,) = rows(reader, "device_class")
    assert [(row.key.device_class, row.activity.apportioned) for row in found] == [("sff", False)]
    assert total.energy.energy_millijoules == 3 * MACHINE


def test_without_device_classes_they_are_inside_and_cover_nothing():
    """One row has the energy of both, and the time of machines alone."""
    (row,), _ = rows(fleet())
    (bare,), _ = rows(replace(fleet(), screen_rows=[]))
    assert row.energy.energy_millijoules == 3 * (MACHINE + SCREEN)
    assert row.activity.coverage_energy == bare.activity.coverage_energy


def test_indicators_never_see_them():
    """A query without screens is answered as if there were none."""
    for dimensions in ((), ("device_class",)):
        asked = Query(FIRST, END, dimensions, 1, now_unix_milliseconds=NOW)
        assert gather(fleet(), asked) == gather(replace(fleet(), screen_rows=[]), asked)


@pytest.mark.parametrize(("screens", "shown"), [(12, {"sff", "monitor"}), (9, {"sff"})])
def test_screens_of_few_machines_are_not_shown_alone(screens: int, shown: set[str]):
    """With k = 10, screens of nine of thirty workstations are withheld. The machines' energy does not contain
    them either, or its parts would reveal them.
    """
    reader = fleet(30, screens, Population.WORKSTATION)
    found, (total,) = rows(reader, "device_class", k=10)
    assert {row.key.device_class for row in found} == shown
    assert total.energy.energy_millijoules == 30 * MACHINE + (screens * SCREEN if "monitor" in shown else 0)
