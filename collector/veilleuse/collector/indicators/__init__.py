# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the sobriety indicators (docs/methodology.md §12): one line of TABLE and one file each.

The docstring of the class gives formula and worked example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from importlib import import_module
from typing import Final

from veilleuse.collector.indicators.server_loads import COMATOSE_DAYS, OVERSIZED_DAYS, UNDERUSED_DAYS
from veilleuse.collector.model.indicators import PCS
from veilleuse.collector.ports.stages import Indicator
from veilleuse.wire.vocabulary import Population

SERVERS: Final = frozenset({Population.SERVER})
OUT_OF_HOURS: Final = "I1"
COVERAGE: Final = "I13"
"""Coverage, which is shown beside every other figure."""
AVOIDABLE: Final = "I4"
NIGHTS: Final = "I5"
"""Night and weekend ratio; it needs open and closed hours, which single days of servers do not separate."""


class IndicatorInput(Enum):
    """An IndicatorInput names the data that an indicator is computed from."""

    SUMS = auto()
    """Sums of groups over any days."""
    MACHINES = auto()
    DEVICES = auto()
    """Assets in service."""
    FLEET = auto()
    """Purchases and retirements."""
    USERS = auto()
    ACTIONS = auto()


@dataclass(frozen=True, slots=True)
class IndicatorLine:
    """An IndicatorLine describes one indicator to the outlets: they loop over TABLE, and name no indicator
    themselves.
    """

    place: str
    """module:class below this package; imported only when used."""
    made_of: IndicatorInput
    gauges: tuple[str, ...] = ()
    """Metric names in exposition/fleet_metrics.py, in the order of the class's `parts`."""
    days: int | None = None
    """Length in days of the window that ends with the period; None = computed over months or any period."""
    objective: str | None = None
    """Objective of the REEN strategy that the indicator serves (model.actions.OBJECTIVES)."""
    populations: frozenset[Population] = frozenset(Population)
    """Populations that the REEN sheet shows the indicator for."""
    also_of: frozenset[Population] = frozenset()
    """Further populations that a line of the sheet may ask for."""
    is_of_months: bool = False
    """True = summed over machines' months: no value where some months are deleted."""
    is_sum: bool = False
    """True = a sum over the period. A yearly baseline or target is compared with it only over twelve months.
    """
    has_history: bool = True
    """False = the state as machines report it now: no past value can be restated."""
    is_threshold_a_goal: bool = True
    """False = the threshold is a lifetime. A fleet whose machines all stay 8 years has a median age of 4."""


TABLE: Final[Mapping[str, IndicatorLine]] = {
    OUT_OF_HOURS: IndicatorLine(
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
    AVOIDABLE: IndicatorLine(
        "avoidable_energy:AvoidableEnergy",
        IndicatorInput.MACHINES,
        ("veilleuse_month_avoidable_energy_joules",),
        objective="2",
        populations=PCS,
        also_of=SERVERS,
        is_of_months=True,
        is_sum=True,
    ),
    NIGHTS: IndicatorLine(
        "night_ratio:NightRatio",
        IndicatorInput.SUMS,
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
"""Id → line, in display order."""
SERVER_KWH: Final = "server_kwh"
USE_PHASE: Final = "use_phase_kgco2e"
ON_THE_SHEET: Final = (
    *(one for one, line in TABLE.items() if line.made_of is not IndicatorInput.ACTIONS),
    SERVER_KWH,
    USE_PHASE,
)
"""Indicators that the REEN sheet computes, so that nobody enters their values; the emissions report computes
the last two."""


def made_of(one: IndicatorInput) -> tuple[str, ...]:
    """Return the ids of the indicators with this input."""
    return tuple(identifier for identifier, line in TABLE.items() if line.made_of is one)


def load_indicator(identifier: str) -> Indicator:
    """Return the indicator of this id. Raises KeyError."""
    module, _, name = TABLE[identifier].place.partition(":")
    made: Indicator = getattr(import_module(f"{__name__}.{module}"), name)()
    return made
