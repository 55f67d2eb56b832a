# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the worked examples of docs/methodology.md §13, and those with numbers in §1, §2, §6, §8 and §10.

Expected values are written as in the method and come from outside this program. Every computed value comes
from functions that reports use. They are called through their modules, so that the examples call what a
report calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Final, TypeAlias

from veilleuse.collector import quantiles
from veilleuse.collector.account import emissions, rounding
from veilleuse.collector.derive import loadmodel, priors, wall
from veilleuse.collector.derive.priors import MILLION
from veilleuse.collector.factors.book import factor_book
from veilleuse.collector.fleet import estimator
from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.fleet.samples import DAY_TYPES, InService, SampleMachine, Stratum
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell, Point
from veilleuse.collector.model.sums import EnergySums, WallEnergy
from veilleuse.collector.shipped_tables import STATE_POWERS, StatePowers, load_table
from veilleuse.wire import units
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import KILOGRAMS_PER_TONNE, WATTS_PER_KILOWATT
from veilleuse.wire.vocabulary import Band, Boundary, DeviceClass, PointKind, State, Supply

EU_617_2013: Final = "EU 617/2013 and ENERGY STAR 5.2"
ENERGY_STAR_8: Final = "ENERGY STAR 8.0"
NOTEBOOK: Final = "notebook"
DESKTOP: Final = "desktop/integrated desktop"
HOURS_PER_YEAR: Final = 8_760
"""Hours of both schemes' year of 365 days."""


@dataclass(frozen=True, slots=True)
class Duty:
    """Shares of a year; they sum to 1."""

    off: Fraction
    sleep: Fraction
    long_idle: Fraction
    """Screen off; 0 where the scheme has one idle mode."""
    short_idle: Fraction


@cache
def duties() -> Mapping[tuple[str, str], Duty]:
    """Return (scheme, device) → its duty, from tec_mode_weights.csv. Raises ConfigurationError."""
    return {
        (row["scheme"], row["device"]): Duty(
            *(Fraction(row[name] or "0") for name in ("t_off", "t_sleep", "t_long_idle", "t_short_idle"))
        )
        for row in load_table("tec_mode_weights").rows
    }


def tec_kwh_per_year(
    duty: Duty, off: Decimal, sleep: Decimal, long_idle: Decimal, short_idle: Decimal
) -> Fraction:
    """Return the exact kWh a year of these powers in W, each ≥ 0."""
    watts = (
        duty.off * Fraction(off)
        + duty.sleep * Fraction(sleep)
        + duty.long_idle * Fraction(long_idle)
        + duty.short_idle * Fraction(short_idle)
    )
    return watts * HOURS_PER_YEAR / WATTS_PER_KILOWATT


def tec_of(powers: StatePowers, duty: Duty) -> Fraction:
    """Return the kWh a year of a class of the load model: its `idle` with the screen off, its `light` with it
    on.
    """

    def watts(microwatts: int | None) -> Decimal:
        return Decimal(microwatts or 0) / MILLION

    return tec_kwh_per_year(
        duty,
        watts(powers.off_microwatts),
        watts(powers.sleep_microwatts),
        watts(powers.idle_microwatts),
        watts(powers.light_microwatts),
    )


Value: TypeAlias = Fraction | float | int

_ULPS: Final = 4
"""Last bits by which two orders of the same sum may differ."""
_ZONE: Final = "FR"


@dataclass(frozen=True, slots=True)
class WorkedExample:
    """A worked example beside the value of this version."""

    section: str
    """Section of docs/methodology.md."""
    what: str
    inputs: str
    unit: str
    expected: str
    """Value as the method writes it."""
    got: float
    """Unrounded value."""
    ok: bool


def check_examples() -> Iterator[WorkedExample]:
    """Yield all examples, section 13 first.

    Raises ConfigurationError for a damaged table, UnknownZone for a missing factor.
    """
    yield from _energies_and_emissions()
    yield from _tec()
    yield from _pedigree()
    yield from _stratified_mean()
    yield from _factors()
    yield from _walls()
    yield from _uncertainty()
    yield from _sober_about_size()


def _check_rounded(
    section: str, what: str, inputs: str, expected: str, got: Value, unit: str = ""
) -> WorkedExample:
    """Compare with the expected value, to its written digits."""
    return _check_within(section, what, inputs, expected, (*_written_range(expected), got), unit)


def _check_exact(
    section: str, what: str, inputs: str, expected: str, got: Value, unit: str = ""
) -> WorkedExample:
    """Compare exactly with the expected value."""
    value = Fraction(Decimal(expected))
    return _check_within(section, what, inputs, expected, (value, value, got), unit)


def _check_within(
    section: str, what: str, inputs: str, expected: str, bounds: tuple[Fraction, Fraction, Value], unit: str
) -> WorkedExample:
    """Check a value; `bounds` are the lowest and highest right value, and the value itself."""
    low, high, got = bounds
    return WorkedExample(section, what, inputs, unit, expected, float(got), low <= Fraction(got) <= high)


def _written_range(expected: str) -> tuple[Fraction, Fraction]:
    """Return the range of a written number: half a unit of its last digit on either side, or some bits of a
    float.
    """
    number = Decimal(expected)
    half = Fraction(Decimal(1).scaleb(int(number.as_tuple().exponent))) / 2
    spread = max(half, _ULPS * Fraction(math.ulp(float(number))))
    return Fraction(number) - spread, Fraction(number) + spread


# --- §13


def _energies_and_emissions() -> Iterator[WorkedExample]:
    energy = units.millijoules_from_watts(65, 900 * units.MILLISECONDS_PER_SECOND)
    got = units.kwh_from_millijoules(round(energy))
    yield _check_rounded("13", "energy from power", "65 W for 900 s", "0.01625", got, "kWh")
    book = factor_book()
    owid = emissions.emissions(Fraction(10), book.named("OWID-FRA-2023"))
    yield _check_exact("13", "OWID table", "10 kWh, FR 2023", "0.55275", owid.total_kgco2e, "kgCO2e")
    product = emissions.kgco2e(Fraction(10), Decimal("0.056039"))
    yield _check_exact("13", "plain product", "10 kWh × 56.039 g", "0.56039", product, "kgCO2e")
    bill = emissions.emissions(Fraction(10_000), book.choose(_ZONE, 2022).factor)
    rest = (bill.upstream_kgco2e or Fraction(0)) + (bill.losses_kgco2e or Fraction(0))
    for what, expected, part in (
        ("total", "520", bill.total_kgco2e),
        ("combustion", "338", bill.combustion_kgco2e),
        ("upstream + losses", "182.4", rest),
        ("residual", "-0.4", bill.split_residual_kgco2e),
    ):
        yield _check_exact("13", f"ADEME 2022, {what}", "10,000 kWh", expected, part or Fraction(0), "kgCO2e")
    bill = emissions.emissions(Fraction(12_500), book.choose(_ZONE, 2021).factor)
    yield _check_exact("13", "ADEME 2021", "12,500 kWh", "711.25", bill.total_kgco2e, "kgCO2e")


def _tec() -> Iterator[WorkedExample]:
    duty = duties()[EU_617_2013, NOTEBOOK]
    got = tec_kwh_per_year(duty, Decimal(1), Decimal("1.7"), Decimal(0), Decimal(10))
    inputs = "off 1 W, sleep 1.7, idle 10; 0.60/0.10/0.30"
    yield _check_exact("13", "TEC, notebook, EU 617/2013", inputs, "33.0252", got, "kWh/year")


def _pedigree() -> Iterator[WorkedExample]:
    got = emissions.pedigree_gsd2({})
    yield _check_rounded("13", "pedigree, nothing known", "all scores null", "2.5163566012590954", got)


_STRATA: Final = (
    ("laptop", 4000, 200, 26.0, 9.5),
    ("sff", 9000, 300, 88.0, 35.0),
    ("server", 120, 100, 1900.0, 700.0),
)
"""Class, N, n, mean and sample standard deviation in kWh a year."""
_YEAR_MILLISECONDS: Final = 365 * units.MILLISECONDS_PER_DAY


def _stratified_mean() -> Iterator[WorkedExample]:
    total = _stratified_total()
    kwh = Fraction(1, units.MILLIJOULES_PER_KWH)
    error = math.sqrt(total.sampling_variance) * float(kwh)
    low, high = (bound * float(kwh) for bound in total.bounds_millijoules)
    inputs = "N 4000/9000/120, n 200/300/100, mean 26/88/1900, sd 9.5/35/700"
    for what, expected, got, unit in (
        ("", "1124000", total.energy_millijoules * kwh, "kWh"),
        (", standard error", "18394.13", error, "kWh"),
        (", half-width", "36051.8", error * quantiles.quantile95(total.degrees_of_freedom), "kWh"),
        (", degrees of freedom", "333", total.degrees_of_freedom, ""),
        (", u", "0.0163649", total.u_sampling, ""),
        (", lower end", "1088520", low, "kWh"),
        (", upper end", "1160636", high, "kWh"),
    ):
        yield _check_rounded("13", f"stratified mean{what}", inputs, expected, got, unit)


def _stratified_total() -> Estimate:
    """Estimate machines with exactly these means and deviations, half above and half below; one day type."""
    machines: list[SampleMachine] = []
    in_service: list[InService] = []
    for name, number, observed, mean, deviation in _STRATA:
        stratum = Stratum(name, "all")
        away = deviation * math.sqrt((observed - 1) / observed)
        machines += [_machine(stratum, mean + (away if one % 2 else -away)) for one in range(observed)]
        in_service.append(InService(stratum, number, _days(number * _YEAR_MILLISECONDS)))
    return estimator.Fleet(machines, in_service).total()


def _machine(stratum: Stratum, kwh: float) -> SampleMachine:
    energy = round(kwh * units.MILLIJOULES_PER_KWH)
    return SampleMachine(
        stratum,
        "one model",
        _days(energy),
        _days(_YEAR_MILLISECONDS),
        {Method.METERED: EnergySums(_YEAR_MILLISECONDS, energy, 0)},
        observed_milliseconds=_YEAR_MILLISECONDS,
    )


def _days(value: int) -> tuple[int, ...]:
    """Put the whole value on days of the first type."""
    return (value, *(0 for _ in DAY_TYPES[1:]))


# --- §8 and §10


_ADEME: Final = ((2021, "0.0569"), (2022, "0.0520"), (2023, "0.0580"), (2024, "0.0519"), (2025, "0.0461"))


def _factors() -> Iterator[WorkedExample]:
    book = factor_book()
    for year, expected in _ADEME:
        got = Fraction(book.choose(_ZONE, year).factor.total_kgco2e_per_kwh)
        yield _check_exact("8", f"ADEME {year}", "mainland, average mix", expected, got, "kgCO2e/kWh")
    old, new = (Fraction(book.choose(_ZONE, year).factor.total_kgco2e_per_kwh) for year in (2024, 2025))
    yield _check_rounded("10", "fall of the factor", "2024 to 2025", "11.2", 100 * (1 - new / old), "%")
    of_2022 = book.choose(_ZONE, 2022).factor
    parts = sum((Fraction(value) for _, value in of_2022.components), Fraction(0))
    yield _check_exact("8", "ADEME 2022, sum of its parts", "as published", "0.05204", parts, "kgCO2e/kWh")
    estimated = emissions.emissions(Fraction(1), book.choose(_ZONE, 2021).factor)
    for name, expected, part in (
        ("combustion", "65.0", estimated.combustion_kgco2e),
        ("upstream", "25.9", estimated.upstream_kgco2e),
        ("losses", "9.1", estimated.losses_kgco2e),
    ):
        got = 100 * (part or Fraction(0)) / estimated.total_kgco2e
        yield _check_rounded(
            "8", f"share of {name}, estimated", "ADEME 2021, by the parts of 2022", expected, got, "%"
        )
    last = book.choose(_ZONE, 2025)
    waiting = book.choose(_ZONE, last.factor.valid_to.year + 1)
    added = math.sqrt(emissions.factor_u(waiting) ** 2 - emissions.factor_u(last) ** 2)
    yield _check_rounded("8", "u of a year not published yet", "added in quadrature", "0.108", added)


# --- §1 and §2


_HOUR: Final = units.MILLISECONDS_PER_HOUR
_PACKAGE: Final = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT, "machine")
_BATTERY: Final = Point(PointKind.BATTERY_OUT, "BAT0", Boundary.MACHINE_DC, "machine")


def _walls() -> Iterator[WorkedExample]:
    for device_class, watts, expected, disks, inputs in (
        (DeviceClass.LAPTOP, 10, "16.64", (0, 0), "3 W + 1.20/0.88 × 10 W"),
        (DeviceClass.MINI_PC, 10, "24.5", (0, 0), "12 W + 1.25 × 10 W"),
        (DeviceClass.SFF, 10, "24.5", (0, 0), "12 W + 1.25 × 10 W"),
        (DeviceClass.TOWER, 10, "33.5", (0, 0), "20 W + 1.35 × 10 W"),
        (DeviceClass.SERVER, 100, "190", (1, 2), "10 W + 6 + 2 × 2 + 1.7 × 100 W"),
    ):
        cell = _hour_on(Supply.AC, _PACKAGE, watts)
        hard, solid = disks
        facts = MachineFacts(device_class, hard_disks=hard, solid_state_disks=solid)
        got = _mean_watts(wall.wall_energy(cell, facts), Method.COUNTER_MODELLED)
        yield _check_rounded("1", f"wall model, {device_class}", inputs, expected, got, "W")
    drained = wall.wall_energy(_hour_on(Supply.BATTERY, _BATTERY, 8), MachineFacts(DeviceClass.LAPTOP))
    yield _check_rounded(
        "1", "battery discharge", "8 W ÷ 0.84", "9.524", _mean_watts(drained, Method.BATTERY), "W"
    )
    yield from _state_powers()


def _state_powers() -> Iterator[WorkedExample]:
    duty = duties()[ENERGY_STAR_8, DESKTOP]
    inputs = "state powers at ENERGY STAR 8 duty"
    found = {one: tec_of(STATE_POWERS[one], duty) for one in DeviceClass if one in _COMPARED}
    for device_class in (DeviceClass.MINI_PC, DeviceClass.SFF):
        bounds = (Fraction(28), Fraction(50), found[device_class])
        yield _check_within("2", f"TEC, {device_class}", inputs, "28 to 50", bounds, "kWh/year")
    yield _check_rounded("2", "TEC, tower", inputs, "95", found[DeviceClass.TOWER], "kWh/year")
    yield _check_rounded("2", "TEC, all_in_one", inputs, "96", found[DeviceClass.ALL_IN_ONE], "kWh/year")
    server = MachineFacts(DeviceClass.SERVER, cpu_model="known", cpu_count=16)
    idle = loadmodel.rest_microwatts(server, State.ON_IDLE) or 0
    full = STATE_POWERS[DeviceClass.SERVER].active_microwatts
    yield _check_rounded("2", "server, idle over full load", "100 W, 475 W", "0.21", Fraction(idle, full))


_COMPARED: Final = frozenset(
    {DeviceClass.MINI_PC, DeviceClass.SFF, DeviceClass.TOWER, DeviceClass.ALL_IN_ONE}
)


def _hour_on(supply: Supply, point: Point, watts: int) -> Cell:
    """Return a cell of one hour on and idle, with one point."""
    energy = round(units.millijoules_from_watts(watts, _HOUR))
    return Cell(Band.OPEN, State.ON_IDLE, supply, _HOUR, ((point, energy, _HOUR),))


def _mean_watts(parts: tuple[WallEnergy, ...], method: Method) -> Fraction:
    """Return the mean power of an hour with one method, W; 0 where another method answered."""
    energy = sum(one.energy_millijoules for one in parts if one.method is method)
    return Fraction(energy, _HOUR)


# --- §6


def _uncertainty() -> Iterator[WorkedExample]:
    last = factor_book().choose(_ZONE, 2022)
    yield _check_rounded("8", "u of a published ±p %", "ln(1.10)/2", "0.0476551", emissions.factor_u(last))
    gsd2 = priors.u_ppm(1.5) / priors.MILLION
    yield _check_rounded("1", "u of a GSD²", "ln(1.5)/2", "0.202733", gsd2)
    yield _check_rounded(
        "6", "quantile", "200 degrees of freedom or more", "1.959964", quantiles.quantile95(200)
    )
    yield _check_rounded("6", "quantile", "9 degrees of freedom", "2.262157", quantiles.quantile95(9))
    shown = rounding.round_interval((1_124_000.0, 1_088_520.4, 1_160_636.2))
    for what, expected, text in zip(
        ("value", "lower end", "upper end"), ("1124000", "1089000", "1161000"), shown, strict=True
    ):
        yield _check_exact(
            "6", f"rounded for people, {what}", "half-width 36,058", expected, int(text), "kWh"
        )


def _sober_about_size() -> Iterator[WorkedExample]:
    factor = factor_book().choose(_ZONE, 2024).factor
    fleet_kgco2e = emissions.emissions(Fraction(13_000 * 70), factor).total_kgco2e
    inputs = "13,000 PCs × 70 kWh, 2024"
    yield _check_rounded("8", "sober about size", inputs, "47", fleet_kgco2e / KILOGRAMS_PER_TONNE, "tCO2e")
    yield _check_rounded(
        "8", "sober about size, share", f"{inputs}; of 2,103 t", "2", fleet_kgco2e / 21_030, "%"
    )
    back = emissions.emissions(Fraction(40_500_000), factor).total_kgco2e / KILOGRAMS_PER_TONNE
    yield _check_within(
        "8",
        "sober about size, back",
        "40.5 GWh, 2024",
        "2103",
        (Fraction(2_100), Fraction(2_106), back),
        "tCO2e",
    )
