# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the published indicators of a month: as written, added as if of all machines, without machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.collector.indicators.test_sobriety import HOUR, load, machine, of, server
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.indicators import IndicatorInput, load_indicator, made_of
from veilleuse.collector.model.indicators import BandUse, Figure, IndicatorMachine, PowerPlan, Targets
from veilleuse.collector.model.inventory import ServerRole
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Group, GroupSums
from veilleuse.collector.release.indicator_rows import INDICATORS, HalfWidth, IndicatorMonth, IndicatorRow
from veilleuse.collector.release.tables import Hidden
from veilleuse.wire.vocabulary import Band, Population

FIRST, END = date(2026, 10, 1), date(2026, 11, 1)
FAMILY = GroupKey(FIRST, END, "FR", Population.WORKSTATION)
OF_MACHINES = made_of(IndicatorInput.MACHINES)
BUSY = load(cpu_buckets=(0,) * 12 + (180 * 24 * HOUR,), cpu_busy_milliseconds=180 * 24 * HOUR)


def test_a_month_is_read_as_it_was_written():
    """Format 3 stays as it is for ever: decimals to the last digit, and no machine."""
    key = FAMILY._replace(entity="A", device_class="tower")
    figure = Figure(
        0.1 + 0.2, 30, 18, 30.0, details={"a_kwh": 1 / 3, "n": 2}, interval=(0.1, 0.7), threshold=0.9
    )
    month = IndicatorMonth(
        Slice(FIRST, END),
        (IndicatorRow("I3", key, figure),),
        (Group(FAMILY._replace(population=Population.SERVER, site="lyon"), GroupSums(1, 2, {}, {})),),
        (HalfWidth("I3", FAMILY.over(), 7),),
        (("I3", Hidden(FAMILY, frozenset("B"), frozenset({"tower"}))),),
    )
    content = json.dumps(INDICATORS.encode(month), separators=(",", ":"))
    assert content.startswith(
        '{"rows":[["I3","FR","workstation","A",null,"tower",null,0,0,30,{"float":"0.30000000000000004"},18,{"float":"30.0"},'
        '{"float":"0.9"},"machines",{"a_kwh":{"float":"0.3333333333333333"},"n":2},[{"float":"0.1"},{"float":"0.7"}],0]],"servers":'
    )
    assert INDICATORS.format == 3
    assert INDICATORS.decode(json.loads(content), FIRST, END) == month
    behind = replace(month, rows=(IndicatorRow("I3", key, replace(figure, behind=({1: 1},))),))
    with pytest.raises(ValueError, match="holds its machines"):
        INDICATORS.encode(behind)


def pc(
    number: int, night: int, beyond: int, watts: int, plan: tuple[int | None, int | None]
) -> IndicatorMachine:
    """Return a PC with hours idle at night, and in long runs in open time."""

    def use(hours: int) -> BandUse:
        energy = watts * hours * HOUR
        return BandUse(
            on_idle_milliseconds=hours * HOUR,
            on_idle_millijoules=energy,
            derived_millijoules=energy,
            derived_uncertainty_millijoules=energy // 10,
            beyond_30_minutes_milliseconds=hours * HOUR,
        )

    return machine(
        number, bands={Band.NIGHT: use(night), Band.OPEN: use(beyond)}, power_plan=PowerPlan(*plan)
    )


def a_server(number: int, hours: int, kind: str) -> IndicatorMachine:
    """Return a server of one verdict of I6."""
    energy = 100 * hours * HOUR
    use = BandUse(
        on_active_milliseconds=hours * HOUR,
        on_active_millijoules=energy,
        derived_millijoules=energy,
        derived_uncertainty_millijoules=energy // 10,
    )
    loads = {"comatose": load(), "busy": BUSY}.get(kind)
    return server(
        number,
        bands={Band.NIGHT: use},
        loads={30: loads, 90: loads, 180: loads} if loads else {},
        role=ServerRole.BACKUP if kind == "excluded" else None,
    )


def fleets() -> st.SearchStrategy[list[list[IndicatorMachine]]]:
    """Draw up to four groups of PCs, or of servers of which I4 knows one in each group at least."""
    hours = st.integers(1, 50)
    plans = st.sampled_from(((600, 1200), (600, 0), (None, None)))
    pcs = st.builds(pc, st.integers(), hours, hours, st.integers(5, 40), plans)
    kinds = st.sampled_from(("comatose", "busy", "excluded", "unknown"))
    known = st.builds(a_server, st.integers(), hours, st.sampled_from(("comatose", "busy")))
    servers = st.builds(
        lambda first, others: [first, *others],
        known,
        st.lists(st.builds(a_server, st.integers(), hours, kinds), max_size=3),
    )
    return st.one_of(
        st.lists(st.lists(pcs, min_size=1, max_size=4), min_size=1, max_size=4),
        st.lists(servers, min_size=1, max_size=4),
    ).map(number_machines)


def number_machines(groups: Sequence[Sequence[IndicatorMachine]]) -> list[list[IndicatorMachine]]:
    """Give each machine a number of its own."""
    numbers = iter(range(100))
    return [[replace(one, host_id=next(numbers)) for one in group] for group in groups]  # type: ignore[arg-type]


def told(figure: Figure) -> dict[str, object]:
    """Return what a figure tells, to the last digits but a few."""
    numbers = {
        "value": figure.value,
        "numerator": figure.numerator,
        "denominator": figure.denominator,
        **figure.details,
    }
    low, high = (figure.value and figure.interval) or (None, None)
    known = {name: one for name, one in {**numbers, "low": low, "high": high}.items() if one is not None}
    return {"n": figure.n} | {name: pytest.approx(one) for name, one in known.items()}


@given(fleets())
def test_figures_of_groups_add_up_to_that_of_all_machines(groups: list[list[IndicatorMachine]]):
    """An answer is a sum of published rows: it must be what the indicator is of all machines."""
    for identifier in OF_MACHINES:
        made = load_indicator(identifier)
        parts = [figure for group in groups for figure in made.figures(of(*group), Targets())]
        for whole in made.figures(of(*(one for group in groups for one in group)), Targets()):
            assert told(made.add(parts, same_time=True)) == told(whole), identifier


@given(fleets())
def test_months_add_up_without_counting_a_machine_twice(groups: list[list[IndicatorMachine]]):
    """Servers that could not be judged were once counted in each month of a year."""
    made = load_indicator("I4")
    for figure in made.figures(of(*(one for group in groups for one in group)), Targets()):
        year = made.add([figure] * 12, same_time=False)
        counts = {name: one for name, one in figure.details.items() if isinstance(one, int)}
        assert year.n == figure.n
        assert year.value == pytest.approx((figure.value or 0) * 12)
        assert {name: year.details[name] for name in counts} == counts
        assert year.details.get("avoidable_share") == pytest.approx(figure.details.get("avoidable_share"))


def test_a_withheld_figure_makes_the_sum_incomplete():
    """A sum without some of its machines would be read as the figure of all."""
    made = load_indicator("I3")
    shown, withheld = Figure(0.5, 20, 10, 20), Figure(None, 12, withheld=True)
    found = made.add([shown, withheld], same_time=True)
    assert (found.value, found.n, found.incomplete, found.withheld) == (0.5, 20, True, False)
    assert made.add([withheld, withheld], same_time=True) == replace(withheld, n=24)
