# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Energy of a period × factors gives the columns of docs/methodology.md §10."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from tests.support.memory_store import host, site
from tests.support.year import DAY, END, FIRST, census, figures, worked, workstation
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.statement import METHOD_VERSION, StatementTerms, build_statement
from veilleuse.collector.errors import UnknownZone
from veilleuse.collector.factors.book import choose
from veilleuse.collector.fleet.census import device_of_host
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.model.factors import Contract
from veilleuse.collector.model.hosts import Host
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import DeviceClass, Population

TERMS = StatementTerms(choose, "real")


def period(
    hosts: list[Host],
    *,
    watts: int = 50,
    measured: int | None = None,
    imputed: int = 0,
    year: int = 2025,
    rooms: Collection[RoomFigure] = (),
) -> PeriodFigures:
    """Return the figures of a period: all hosts are in the fleet, the first `measured` in the sample."""
    standings = census(*hosts)
    sample = hosts[:measured]
    by_host = {one.host_id: one for one in standings}
    machines = [
        (
            worked(one, watts, imputed_energy_millijoules=imputed, imputed_milliseconds=imputed // 50),
            by_host[one.host_id],
        )
        for one in sample
    ]
    made = figures(
        FIRST,
        END,
        ("entity", "device_class"),
        standings,
        machines,
        assumptions=Assumptions(),
        k_anonymity=10,
        rooms=rooms,
    )
    return replace(made, first=date(year, 1, 1), end=date(year + 1, 1, 1))


def fleet(number: int = 20, entity: str = "E1", place: str = "hq") -> list[Host]:
    """Return workstations of one entity."""
    return [workstation(n, entity, place=place) for n in range(1, number + 1)]


def only(made: Sequence[Any]) -> Any:
    """Return the one item."""
    (row,) = made
    return row


def test_a_row_names_everything():
    """A row has energy and emissions, their parts, factor, intervals, coverage, item and method version."""
    made = build_statement([period(fleet())], TERMS)
    row = only(made.rows)
    energy = row.energy.energy_millijoules
    assert energy == 20 * 261 * DAY // 2 * 50
    assert row.energy.kwh_total == energy / MILLIJOULES_PER_KWH
    factor = choose("FR", 2025).factor
    assert row.factor.factor_id == factor.factor_id
    assert row.emissions.kgco2e_total == float(
        Fraction(energy, MILLIJOULES_PER_KWH) * Fraction(factor.total_kgco2e_per_kwh)
    )
    parts = (
        row.emissions.kgco2e_combustion,
        row.emissions.kgco2e_upstream,
        row.emissions.kgco2e_losses,
        row.emissions.split_residual_kgco2e,
    )
    assert None not in parts
    assert math.fsum(part for part in parts if part is not None) == pytest.approx(row.emissions.kgco2e_total)
    assert row.emissions.split_estimated is True
    assert (row.items.beges_item, row.items.ghg_category, row.items.in_beges_energie) == ("2.1", "2", True)
    assert (row.activity.n, row.activity.n_fleet, row.level, row.origin.data) == (20, 20, "row", "real")
    assert row.origin.method_version == METHOD_VERSION
    assert row.uncertainty.kwh.lo95 < row.energy.kwh_total < row.uncertainty.kwh.hi95
    assert (
        row.uncertainty.kgco2e.lo95 / row.emissions.kgco2e_total
        < row.uncertainty.kwh.lo95 / row.energy.kwh_total
    )
    assert row.uncertainty.gsd2 == pytest.approx(
        math.exp(
            2 * math.hypot(row.uncertainty.u_sampling, row.uncertainty.u_model, row.uncertainty.u_factor)
        )
    )
    told = only(made.factors)
    assert (told["licence"], told["factor_id"]) == (factor.licence, factor.factor_id)


def test_parts_sum_to_the_total_in_millijoules():
    """Measured + modelled + imputed + extrapolated is the total, and the shares of the mix sum to 1."""
    row = only(build_statement([period(fleet(), measured=12, imputed=5_000_000)], TERMS).rows)
    parts = (
        row.energy.measured_millijoules,
        row.energy.modelled_millijoules,
        row.energy.imputed_millijoules,
        row.energy.extrapolated_millijoules,
    )
    assert sum(parts) == row.energy.energy_millijoules
    assert row.energy.imputed_millijoules == 12 * 5_000_000
    assert row.energy.extrapolated_millijoules > 0
    assert set(row.energy.method_mix) == {"load_modelled", "imputed", "extrapolated"}
    assert math.fsum(row.energy.method_mix.values()) == pytest.approx(1)
    assert row.energy.estimated is False


def test_much_imputed_is_labelled():
    """A figure with more than 20 % imputed energy is marked as estimated."""
    seldom = [worked(one, days=10) for one in fleet()]
    heavy = sum(sum(values) for one in seldom for values in one.by_day_type.values())
    row = only(build_statement([period(fleet(), imputed=heavy)], TERMS).rows)
    assert row.energy.imputed_share > 0.2
    assert row.energy.estimated is True


def test_few_metered_machines_hide_the_parts():
    """Where one machine gives the measured part, the row has its total and no parts."""
    hosts = fleet(30)
    standings = census(*hosts)
    by_host = {one.host_id: one for one in standings}
    machines = [
        (worked(one, method=Method.METERED if not number else Method.LOAD_MODELLED), by_host[one.host_id])
        for number, one in enumerate(hosts)
    ]
    made = build_statement(
        [figures(FIRST, END, (), standings, machines, assumptions=Assumptions(), k_anonymity=10)], TERMS
    )
    for row in (only(made.rows), only(made.totals)):
        assert row.energy.kwh_total is not None
        assert (
            row.energy.kwh_measured,
            row.energy.measured_millijoules,
            row.energy.method_mix,
            row.energy.imputed_share,
        ) == (None,) * 4


def test_a_fleet_that_nobody_measured():
    """Ten PCs without measurement and default have no energy, never 0, and a coverage of 0."""
    made = build_statement([period(fleet(10), measured=0)], TERMS)
    for row in (only(made.rows), only(made.totals)):
        assert (row.energy.energy_millijoules, row.energy.kwh_total, row.emissions.kgco2e_total) == (
            None,
            None,
            None,
        )
        assert (row.activity.coverage_energy, row.activity.n_fleet, row.activity.n) == (0, 10, 0)


def test_the_factor_comes_in_once_on_a_total_over_zones():
    """With a site in Belgium beside Lyon, rows have their own factors and the total their sum."""
    standings = [
        replace(one, zone="BE" if one.entity == "E2" else "FR")
        for one in census(*fleet(20), *(workstation(100 + n, "E2") for n in range(20)))
    ]
    machines = [(worked(workstation(one.host_id or 0)), one) for one in standings]
    made = build_statement(
        [figures(FIRST, END, ("entity",), standings, machines, assumptions=Assumptions(), k_anonymity=10)],
        TERMS,
    )
    total, rows = only(made.totals), list[Any](made.rows)
    assert {row.key.zone for row in rows} == {"FR", "BE"}
    assert (total.key.zone, total.factor.factor_id) == ("", None)
    assert total.emissions.kgco2e_total == pytest.approx(sum(row.emissions.kgco2e_total for row in rows))
    assert total.emissions.kgco2e_combustion is None  # Belgium's factor has no components
    assert 0 < total.uncertainty.u_factor < max(row.uncertainty.u_factor for row in rows)
    assert [told["zone"] for told in made.factors] == ["BE", "FR"]


def test_a_measured_zero_over_zones_is_a_zero():
    """Meters that counted nothing in two zones give 0 kg without uncertainty, and no factor."""
    standings = [
        replace(one, zone="BE" if one.entity == "E2" else "FR")
        for one in census(*fleet(20), *(workstation(100 + n, "E2") for n in range(20)))
    ]
    machines = [(worked(workstation(one.host_id or 0), 0, Method.METERED), one) for one in standings]
    made = figures(FIRST, END, ("entity",), standings, machines, assumptions=Assumptions(), k_anonymity=10)
    total = only(build_statement([made], TERMS).totals)
    assert (total.energy.energy_millijoules, total.emissions.kgco2e_total, total.uncertainty.kgco2e.hi95) == (
        0,
        0,
        0,
    )
    assert (total.uncertainty.u_factor, total.factor.factor_id) == (0, None)


def test_a_site_without_a_zone_is_an_error():
    """The world mean is never used instead."""
    standings = [replace(one, zone="") for one in census(*fleet())]
    machines = [(worked(workstation(one.host_id or 0)), one) for one in standings]
    made = figures(FIRST, END, (), standings, machines, assumptions=Assumptions(), k_anonymity=10)
    with pytest.raises(UnknownZone):
        build_statement([made], TERMS)


def test_virtual_machines_are_in_no_ledger():
    """A memo row has energy and emissions, and is in neither ledger."""
    physical = host(1, DeviceClass.SERVER, Population.SERVER, enrolled=FIRST)
    guest = host(2, DeviceClass.VIRTUAL_MACHINE, Population.SERVER, enrolled=FIRST)
    (standing,) = census(physical)
    made = figures(
        FIRST,
        END,
        (),
        [standing],
        [(worked(physical), standing)],
        assumptions=Assumptions(),
        k_anonymity=10,
        virtual=[(worked(guest), device_of_host(guest, {"hq": site()}, "FR"))],
    )
    row = only(build_statement([made], TERMS).memo)
    assert (row.level, row.items.in_beges_energie, row.items.in_bilan_numerique, row.activity.n_fleet) == (
        "memo",
        False,
        False,
        None,
    )
    assert row.emissions.kgco2e_total is not None


def test_a_contract_gives_the_market_line():
    """A contract of half the energy at 0 leaves half of the location's emissions on the row and the total."""
    made = period(fleet())
    assert made.total is not None
    kwh = Fraction(made.total.estimate.energy_millijoules, MILLIJOULES_PER_KWH)
    half = Contract(
        1,
        "green",
        "S",
        FIRST,
        END,
        Decimal(kwh.numerator) / Decimal(2 * kwh.denominator),
        Decimal(0),
        Decimal(10),
        True,
        "GO",
        "bill",
    )
    stated = build_statement([made], replace(TERMS, contracts=(half,)))
    for row in (only(stated.rows), only(stated.totals)):
        assert row.emissions.kgco2e_market == pytest.approx(row.emissions.kgco2e_total / 2)
    elsewhere = replace(half, entity="Z")
    without = build_statement([made], replace(TERMS, contracts=(elsewhere,)))
    assert only(without.rows).emissions.kgco2e_market is None
    assert only(without.totals).emissions.kgco2e_market is None
    assert not build_statement([period([])], replace(TERMS, contracts=(half,))).rows


def test_a_change_is_told_by_its_causes():
    """When watts double from one year to the next, all change is watts; the factor's fall is separate."""
    before, after = period(fleet(), watts=25, year=2024), period(fleet())
    stated = build_statement([after], replace(TERMS, before={0: before}))
    for row in (only(stated.rows), only(stated.totals)):
        assert row.change.watts_effect_kwh == pytest.approx(row.energy.kwh_total / 2)
        assert (row.change.fleet_effect_kwh, row.change.mix_effect_kwh, row.change.hours_effect_kwh) == (
            0,
            0,
            0,
        )
        assert row.change.factor_effect_kgco2e == pytest.approx(row.energy.kwh_total * (0.0461 - 0.0519))
    nobody = build_statement([after], replace(TERMS, before={0: period([], year=2024)}))
    assert only(nobody.totals).change.watts_effect_kwh is None
    assert only(nobody.rows).change.factor_effect_kgco2e is None


def test_a_zone_with_too_few_is_named():
    """The withheld zone is named, and its row has no measured energy."""
    made = build_statement([period(fleet(5))], TERMS)
    assert [(row.activity.n, row.activity.n_fleet, row.energy.kwh_measured or 0) for row in made.rows] == [
        (0, 5, 0)
    ]
    assert [(one["zone"], one["level"]) for one in made.withheld] == [("FR", "row")]
