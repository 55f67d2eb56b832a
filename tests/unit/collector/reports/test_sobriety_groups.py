# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the groups behind sobriety indicators, and of what few machines must not show."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import date

import pytest

from tests.support.year import vector
from tests.unit.collector.indicators.test_sobriety import HOUR, SCOPE, devices, machine, of, the
from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.indicators import load_indicator
from veilleuse.collector.model.actions import ActionLine, ActionTable
from veilleuse.collector.model.indicators import BandUse, IndicatorGroup, PowerPlan, Targets, use_of
from veilleuse.collector.model.inventory import Headcount, Retirement
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.reports.indicators import merge_small_groups
from veilleuse.collector.reports.inventory_groups import fleet_groups, user_groups
from veilleuse.collector.reports.readers import targets_of
from veilleuse.collector.settings import read_settings
from veilleuse.collector.wire_codec import facts_from_wire
from veilleuse.wire.settings_file import ConfigurationError
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Population


@pytest.mark.parametrize(
    ("good", "bad", "value"),
    [
        (9, 41, None),
        (41, 9, None),
        (1, 2, None),
        (10, 40, 0.2),
        (50, 0, 1.0),
        (0, 50, 0.0),
        (5, 0, 1.0),  # 5 known plans of 50 machines: 100 % and 0 % were withheld
        (0, 5, 0.0),
    ],
)
def test_fewer_than_k_on_the_smaller_side_show_nothing(good: int, bad: int, value: float | None):
    """Nine machines that comply, or nine that do not, are withheld; none at all is shown, since
    administrators set the plan."""
    plans = [(600, 600)] * good + [(0, 0)] * bad + [(None, None)] * (50 - good - bad)
    figure = the("I3", of(*(machine(n, power_plan=PowerPlan(*plan)) for n, plan in enumerate(plans))))
    found = disclose_figure(figure, SCOPE, 10)
    assert (found.value, found.withheld) == (value, value is None)
    assert found.details == (figure.details if value is not None else {})


def test_causes_fall_together():
    """A cause of three machines hides all causes, since the sum less the others would show it."""
    idle = BandUse(on_idle_milliseconds=HOUR, on_idle_millijoules=20 * HOUR, derived_millijoules=20 * HOUR)
    beyond = idle._replace(beyond_30_minutes_milliseconds=HOUR)
    machines = [machine(n, bands={Band.NIGHT: idle}) for n in range(20)]
    machines += [machine(100 + n, bands={Band.NIGHT: idle, Band.OPEN: beyond}) for n in range(3)]
    found = disclose_figure(the("I4", of(*machines)), SCOPE, 10)
    assert found.value is not None
    assert [name for name in found.details if name.endswith("_kwh")] == []
    assert disclose_figure(
        the("I4", of(*machines)), GroupKey(*SCOPE_DAYS, population=Population.SERVER), 10
    ).details


SCOPE_DAYS = (SCOPE.period_from, SCOPE.period_to)


def asked(*dimensions: str) -> Query:
    """Return a question about the year."""
    return Query(*SCOPE_DAYS, dimensions)


def test_small_groups_merge_and_a_small_population_is_withheld():
    """Three of E1 join the ten of E2, three classroom PCs alone are withheld, and servers are shown."""
    use = {Band.NIGHT: BandUse(derived_millijoules=HOUR)}

    def group(entity: str, population: Population, count: int, first: int) -> tuple[GroupKey, IndicatorGroup]:
        scope = GroupKey(*SCOPE_DAYS, entity=entity, population=population)
        ones = tuple(machine(first + n, population=population, bands=use) for n in range(count))
        return scope, IndicatorGroup(scope, ones)

    groups = dict(
        [
            group("E1", Population.WORKSTATION, 3, 0),
            group("E2", Population.WORKSTATION, 10, 10),
            group("E3", Population.WORKSTATION, 20, 30),
            group("C", Population.CLASSROOM, 3, 60),
            group("S", Population.SERVER, 1, 70),
        ]
    )
    kept, withheld = merge_small_groups(groups, 10)
    assert {(one.key.entity, len(one.machines)) for one in kept} == {("autres", 13), ("E3", 20), ("S", 1)}
    assert withheld == [GroupKey(*SCOPE_DAYS, population=Population.CLASSROOM)]


def test_a_vector_is_read_into_its_band():
    """Imputed time and energy are excluded; supplies and methods are added up."""
    use = use_of(
        vector(
            on_idle_ac_milliseconds=5,
            on_idle_battery_milliseconds=2,
            on_active_ac_milliseconds=10,
            off_ac_milliseconds=100,
            unknown_ac_milliseconds=1000,
            on_idle_energy_millijoules=70,
            load_modelled_milliseconds=11,
            load_modelled_energy_millijoules=80,
            load_modelled_uncertainty_millijoules=8,
            metered_milliseconds=4,
            metered_energy_millijoules=20,
            idle_beyond_30_minutes_milliseconds=6,
            imputed_milliseconds=9,
            imputed_energy_millijoules=99,
            screens_energy_millijoules=3,
            update_window_energy_millijoules=2,
        )
    )
    assert (use.on_idle_milliseconds, use.on_milliseconds, use.known_milliseconds) == (7, 17, 117)
    assert (use.derived_milliseconds, use.derived_millijoules, use.derived_uncertainty_millijoules) == (
        15,
        100,
        8,
    )
    assert (use.beyond(30), use.beyond(15), use.screens_millijoules, use.window_millijoules) == (6, 0, 3, 2)


CHANGED = {
    "out_of_hours_target_ratio": "0.07",
    "display_off_minutes": "16",
    "sleep_minutes": "60",
    "comatose_cpu_percent": "10",
    "comatose_network_bytes_per_second": "10000",
    "underused_mean_cpu_ratio": "0.2",
    "underused_cpu_percent": "40",
    "oversized_cpu_percent": "30",
    "oversized_memory_percent": "60",
    "oversized_core_ratio": "0.02",
    "server_observed_ratio": "0.8",
    "lifetime_years": "9",
    "reused_purchases_targets": "laptops@2027=0.25,screens@2027=0.2",
    "reused_retirements_ratio": "0.6",
}
"""Setting of [indicators] → a value that is not its default."""


def test_settings_become_targets():
    """Each setting becomes a target; impossible edges and unreadable targets are refused."""
    assert targets_of(read_settings(None, {}).indicators) == Targets()
    made = targets_of(
        read_settings(None, {}, {f"indicators.{name}": text for name, text in CHANGED.items()}).indicators
    )
    same = [one.name for one in fields(Targets) if getattr(made, one.name) == getattr(Targets(), one.name)]
    assert not same, (
        f"{same} of Targets is not filled from its setting: fill it in targets_of (reports/readers.py), and add "
        "the setting to CHANGED and the field to `made == Targets(...)` in this test"
    )
    assert made == Targets(
        out_of_hours_target_ratio=0.07,
        display_off_minutes=16,
        sleep_minutes=60,
        comatose_cpu_percent=10,
        comatose_network_bytes_per_second=10_000,
        underused_mean_cpu_ratio=0.2,
        underused_cpu_percent=40,
        oversized_cpu_percent=30,
        oversized_memory_percent=60,
        oversized_core_ratio=0.02,
        observed_ratio=0.8,
        lifetime_years=9.0,
        reused_purchases=(("laptops", 2027, 0.25), ("screens", 2027, 0.2)),
        reused_retirements_ratio=0.6,
    ), (
        "add a new field to `Targets(...)` here, with its value in CHANGED; else targets_of (reports/readers.py) "
        "fills a field from another setting"
    )
    for name, value in (
        ("sleep_minutes", "20"),
        ("comatose_cpu_percent", "6"),
        ("reused_purchases_targets", "laptops=0.25"),
        ("reused_purchases_targets", "laptops@2027=25"),
    ):
        with pytest.raises(ConfigurationError, match=name):
            read_settings(None, {}, {f"indicators.{name}": value})


def test_power_plans_come_with_the_facts():
    """0 means never; a setting that the agent did not report is unknown."""
    told = pb.Facts(device_class=pb.DEVICE_CLASS_SFF, sleep_ac_seconds=0)
    facts = facts_from_wire(told.SerializeToString())
    assert (facts.display_off_ac_seconds, facts.sleep_ac_seconds) == (None, 0)


def test_users_are_of_the_nearest_entity_that_declares_them():
    """A device counts for its nearest entity with a headcount; a later headcount replaces."""
    counts = (
        Headcount("M", date(2025, 1, 1), 100),
        Headcount("M > A", date(2025, 1, 1), 10),
        Headcount("M > A", date(2026, 6, 1), 12),
        Headcount("M > A", date(2027, 6, 1), 99),
    )
    listed = [replace(devices(1), entity=name) for name in ("M", "M > A > B", "M > C", "X")]
    inventory = Counted(counts)
    day = date(2026, 12, 31)
    groups = list(user_groups(inventory, listed, (), asked("entity"), day))  # type: ignore[arg-type]
    assert [(one.key.entity, one.users, len(one.devices)) for one in groups] == [
        ("M", 100, 2),
        ("M > A", 12, 1),
    ]
    (whole,) = user_groups(inventory, listed, (), asked(), day)  # type: ignore[arg-type]
    assert (whole.users, len(whole.devices)) == (112, 3)


def left(entity: str, units: int) -> Retirement:
    """Return a retirement for committed reuse at six years."""
    return Retirement(date(2026, 5, 1), "laptop", units, "reuse", True, entity=entity, age_years=6.0)


def reuse_of(
    stock: dict[str, int], *retirements: Retirement, by_entity: bool = False
) -> dict[str, float | None]:
    """Return I11 by entity, where it has a figure; `stock` is units on 1 January by entity, blank for all."""
    lines = tuple(
        ActionLine("k", ({"entity": name} if name else {}) | {"year": "2026", "units": str(units)})
        for name, units in stock.items()
    )
    groups = fleet_groups(Left(retirements), Stocked(lines), asked(*["entity"] * by_entity))  # type: ignore[arg-type]
    return {
        group.key.entity or "": figure.value
        for group in groups
        for figure in load_indicator("I11").figures(group, Targets())
    }


def test_the_stock_of_all_is_of_no_entity():
    """230 of 400 is the whole's figure; by entity no stock is known, so that no entity has a figure."""
    stock = {"": 400}
    assert reuse_of(stock, left("A", 210), left("", 20)) == {"": 0.575}
    assert reuse_of(stock, left("A", 210), left("", 20), by_entity=True) == {"A": None, "": None}
    assert reuse_of(stock, left("A", 230), by_entity=True) == {"A": None}


def test_the_stock_of_some_is_not_that_of_all():
    """A's stock gives no figure for departures of A and B together; stocks of both add up."""
    assert reuse_of({"A": 100}, left("A", 60), left("B", 60)) == {"": None}
    assert reuse_of({"A": 100}, left("A", 60), left("B", 60), by_entity=True) == {"A": 0.6, "B": None}
    assert reuse_of({"A": 100, "B": 140}, left("A", 60), left("B", 60)) == {"": 0.5}
    for by_entity, name in ((False, ""), (True, "A")):
        found = reuse_of({"A": 100}, left("A", 20), left("A > a", 20), by_entity=by_entity)
        assert found == {name: 0.4}


@dataclass
class Left:
    """An inventory of retirements alone."""

    rows: tuple[Retirement, ...]

    def purchases(self, _year: int) -> tuple[()]:
        return ()

    def retirements(self, _first: date, _end: date) -> tuple[Retirement, ...]:
        return self.rows


@dataclass
class Stocked:
    """Lines of the retired stock alone."""

    rows: tuple[ActionLine, ...]

    def lines(self, _table: ActionTable) -> tuple[ActionLine, ...]:
        return self.rows


@dataclass
class Counted:
    """An inventory of headcounts alone."""

    counts: tuple[Headcount, ...]

    def headcounts(self) -> tuple[Headcount, ...]:
        return self.counts
