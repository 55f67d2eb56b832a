# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""External screens are groups of their own, counted once, without further time of machines."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from tests.support.memory_store import DAY, HOUR, MemoryPeriods, MemoryReader, gather, host
from tests.support.stored_sums import DerivedRow
from veilleuse.collector.account.group_sums import Tally
from veilleuse.collector.account.observations import tally_periods
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DerivedCell
from veilleuse.collector.release.tables import PARTITION, build_month
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

MONDAY = date(2026, 3, 2)
FIRST, END = date(2026, 3, 1), date(2026, 4, 1)
NOW = 1_775_000_000_000
MACHINE, SCREEN = 300_000, 125_000
MARCH = Query(FIRST, END, PARTITION, 10, now_unix_milliseconds=NOW)


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


def tallies(reader: MemoryReader, *more: HostPeriod) -> dict[str, Tally]:
    """Return March's groups of one entity by device class, as a release has them, with more rows."""
    found = tally_periods(reader, MemoryPeriods(reader, list(more)), MARCH, screens=True)
    return {key.device_class or "": tally for key, tally in found.items()}


def energy_of(tally: Tally) -> int:
    """Return the energy of a group, mJ."""
    return sum(sums.energy_millijoules for sums in tally.energies.values())


def test_screens_have_a_group_of_their_own():
    """900,000 mJ of machines, 375,000 mJ of screens; screens have no known or enrolled time."""
    found = tallies(fleet())
    assert {name: energy_of(tally) for name, tally in found.items()} == {
        "sff": 3 * MACHINE,
        "monitor": 3 * SCREEN,
    }
    monitor = found["monitor"]
    assert (len(monitor.hosts), monitor.states, monitor.enrolled_milliseconds) == (3, {}, 0)


def test_screens_of_a_machine_that_enrolled_meanwhile_wait():
    """They wait as its own energy does; a week's part without energy and time leaves no mark."""
    reader = fleet(screens=0)
    cell = DerivedCell(Band.OPEN, State.ON_IDLE, Supply.AC, Method.LOAD_MODELLED, 0, 0, 0)
    for number, grain, day in ((9, Grain.DAY, MONDAY), (1, Grain.WEEK, date(2026, 3, 30))):
        energy = SCREEN if number == 9 else 0
        row = DerivedRow(HostId(number), grain, day.toordinal(), cell._replace(energy_millijoules=energy))
        reader.screen_rows.append(row)
    found = tallies(reader)
    assert {name: tally.apportioned for name, tally in found.items()} == {"sff": False}
    assert energy_of(found["sff"]) == 3 * MACHINE


def test_indicators_never_see_them():
    """Groups of indicators are as if there were no screens."""
    for dimensions in ((), ("device_class",)):
        asked = Query(FIRST, END, dimensions, 1, now_unix_milliseconds=NOW)
        assert gather(fleet(), asked) == gather(replace(fleet(), screen_rows=[]), asked)


@pytest.mark.parametrize(("screens", "shown"), [(12, {"sff", "monitor"}), (9, {"sff"})])
def test_screens_of_few_machines_are_not_shown_alone(screens: int, shown: set[str]):
    """With k = 10, screens of nine of thirty workstations are withheld. The machines' energy does not contain
    them either, or its parts would reveal them.
    """
    reader = fleet(30, screens, Population.WORKSTATION)
    found = tally_periods(reader, MemoryPeriods(reader), MARCH, screens=True)
    month = build_month(Slice(FIRST, END), found, 10)
    energies = {
        group.key.device_class: sum(sums.energy_millijoules for sums in group.sums.energies.values())
        for group in month.cells
    }
    assert energies == {
        name: {"sff": 30 * MACHINE, "monitor": screens * SCREEN}[name] for name in sorted(shown)
    }
