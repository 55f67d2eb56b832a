# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sobriety indicators: one file each, formula and worked example in the docstring, and one line of the table. docs/methodology.md §12."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from importlib import import_module
from typing import Final, cast

from veilleuse.collector.indicators.server_loads import COMATOSE_DAYS, OVERSIZED_DAYS, UNDERUSED_DAYS
from veilleuse.collector.model.indicators import PCS
from veilleuse.collector.ports import GaugedIndicator, Indicator, SobrietyIndicator
from veilleuse.wire.vocabulary import Population

SERVERS: Final = frozenset({Population.SERVER})
COVERAGE: Final = "I13"
"""The indicator that every other figure is read beside."""


class IndicatorInput(Enum):
    """What an indicator is made of."""

    SUMS = auto()
    """Sums of groups over any days (`Indicator`); the others are a `SobrietyIndicator`."""
    MACHINES = auto()
    DEVICES = auto()
    """Assets in service."""
    FLEET = auto()
    """Purchases and retirements."""
    USERS = auto()
    ACTIONS = auto()


@dataclass(frozen=True, slots=True)
class IndicatorLine:
    """One indicator as the outlets know it: they loop over the table, and know no indicator by its id."""

    place: str
    """module:class below this package; nothing is imported until chosen."""
    made_of: IndicatorInput
    gauges: tuple[str, ...] = ()
    """Names in exposition/catalogue.py, in the order of the class's `parts`."""
    days: int | None = None
    """Days before the end of the period that it is of, where it is not of months."""
    objective: str | None = None
    """Objective of the REEN strategy that it serves (model.actions.OBJECTIVES)."""
    populations: frozenset[Population] = frozenset(Population)
    """Whose machines the REEN sheet shows it of."""
    also_of: frozenset[Population] = frozenset()
    """Others that a line of the sheet may ask for."""
    is_of_months: bool = False
    """Summed over machines' months: where some are gone, there is no value."""
    is_sum: bool = False
    """Of a whole period: a baseline or a target of a year is compared with it over twelve months alone."""
    has_history: bool = True
    """False: as machines say now, so that nothing of it can be restated."""
    is_threshold_a_goal: bool = True
    """False: the threshold is a lifetime. The median age of a fleet of which all is kept for 8 years is 4."""


TABLE: Final[Mapping[str, IndicatorLine]] = {
    "I1": IndicatorLine(
        "out_of_hours:OutOfHours",
        IndicatorInput.SUMS,
        ("veilleuse_outside_opening_ratio", "veilleuse_outside_opening_energy_joules"),
        objective="2",
        populations=PCS,
        is_of_months=True,
    ),
    "I2": IndicatorLine(
        "idle_while_on:IdleWhileOn",
        IndicatorInput.SUMS,
        ("veilleuse_idle_while_on_ratio", "veilleuse_idle_while_on_energy_joules"),
        objective="2",
        populations=PCS,
        also_of=SERVERS,
        is_of_months=True,
    ),
    "I3": IndicatorLine(
        "power_plan:PowerPlanCompliance",
        IndicatorInput.MACHINES,
        ("veilleuse_power_plan_compliance_ratio",),
        objective="2",
        populations=PCS,
        has_history=False,
    ),
    "I4": IndicatorLine(
        "avoidable_energy:AvoidableEnergy",
        IndicatorInput.MACHINES,
        ("veilleuse_month_avoidable_energy_joules",),
        objective="2",
        populations=PCS,
        also_of=SERVERS,
        is_of_months=True,
        is_sum=True,
    ),
    "I5": IndicatorLine(
        "night_ratio:NightRatio",
        IndicatorInput.MACHINES,
        ("veilleuse_month_night_power_ratio",),
        objective="2",
        populations=PCS,
        also_of=SERVERS,
        is_of_months=True,
    ),
    "I6": IndicatorLine(
        "comatose_server:ComatoseServer",
        IndicatorInput.MACHINES,
        ("veilleuse_comatose_servers",),
        days=COMATOSE_DAYS,
        objective="2",
        populations=SERVERS,
    ),
    "I7": IndicatorLine(
        "underused_server:UnderusedServer",
        IndicatorInput.MACHINES,
        ("veilleuse_underused_servers",),
        days=UNDERUSED_DAYS,
        objective="2",
        populations=SERVERS,
    ),
    "I8": IndicatorLine(
        "oversized_server:OversizedServer",
        IndicatorInput.MACHINES,
        ("veilleuse_oversized_servers",),
        days=OVERSIZED_DAYS,
        objective="1",
        populations=SERVERS,
    ),
    "I9": IndicatorLine(
        "age_in_service:AgeInService", IndicatorInput.DEVICES, objective="2", is_threshold_a_goal=False
    ),
    "I10": IndicatorLine("reused_purchases:ReusedPurchases", IndicatorInput.FLEET, objective="1"),
    "I11": IndicatorLine("reused_retirements:ReusedRetirements", IndicatorInput.FLEET, objective="2"),
    "I12": IndicatorLine("equipment_per_user:EquipmentPerUser", IndicatorInput.USERS),
    COVERAGE: IndicatorLine(
        "coverage:Coverage",
        IndicatorInput.SUMS,
        ("veilleuse_coverage_ratio",),
        populations=PCS,
        also_of=SERVERS,
    ),
    "I14": IndicatorLine("measured_savings:MeasuredSavings", IndicatorInput.ACTIONS),
}
"""Id → its line, in the order in which indicators are shown."""
SERVER_KWH: Final = "server_kwh"
USE_PHASE: Final = "use_phase_kgco2e"
ON_THE_SHEET: Final = (
    *(one for one, line in TABLE.items() if line.made_of is not IndicatorInput.ACTIONS),
    SERVER_KWH,
    USE_PHASE,
)
"""What the REEN sheet computes, so that its value is never entered; the last two are of the emissions report."""


def made_of(one: IndicatorInput) -> tuple[str, ...]:
    """Ids of the indicators that are made of this."""
    return tuple(identifier for identifier, line in TABLE.items() if line.made_of is one)


def load(identifier: str) -> Indicator:
    """The indicator of that id, made of sums. Raises KeyError."""
    return cast("Indicator", _made(identifier))  # a test holds every line to the protocol


def load_sobriety(identifier: str) -> SobrietyIndicator:
    """The same of those made of anything else. Raises KeyError."""
    return cast("SobrietyIndicator", _made(identifier))


def load_gauged(identifier: str) -> GaugedIndicator:
    """The same of those whose line has gauges. Raises KeyError."""
    return cast("GaugedIndicator", _made(identifier))


def _made(identifier: str) -> object:
    module, _, name = TABLE[identifier].place.partition(":")
    made: object = getattr(import_module(f"{__name__}.{module}"), name)()
    return made
