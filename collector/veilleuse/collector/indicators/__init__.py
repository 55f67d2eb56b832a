# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sobriety indicators: one file each, formula and worked example in the docstring. docs/methodology.md §12."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, cast

from veilleuse.collector.ports import Indicator, SobrietyIndicator

BUILTIN: Final[Mapping[str, str]] = {
    "I1": "veilleuse.collector.indicators.out_of_hours:OutOfHours",
    "I2": "veilleuse.collector.indicators.idle_while_on:IdleWhileOn",
    "I13": "veilleuse.collector.indicators.coverage:Coverage",
}
"""Id → class, of those made of sums of groups over any days; nothing is imported until chosen."""
SOBRIETY: Final[Mapping[str, str]] = {
    "I3": "veilleuse.collector.indicators.power_plan:PowerPlanCompliance",
    "I4": "veilleuse.collector.indicators.avoidable_energy:AvoidableEnergy",
    "I5": "veilleuse.collector.indicators.night_ratio:NightRatio",
    "I6": "veilleuse.collector.indicators.comatose_server:ComatoseServer",
    "I7": "veilleuse.collector.indicators.underused_server:UnderusedServer",
    "I8": "veilleuse.collector.indicators.oversized_server:OversizedServer",
    "I9": "veilleuse.collector.indicators.age_in_service:AgeInService",
    "I10": "veilleuse.collector.indicators.reused_purchases:ReusedPurchases",
    "I11": "veilleuse.collector.indicators.reused_retirements:ReusedRetirements",
    "I12": "veilleuse.collector.indicators.equipment_per_user:EquipmentPerUser",
    "I14": "veilleuse.collector.indicators.measured_savings:MeasuredSavings",
}
"""The same of those made of machines, of the inventory and of actions."""


def load(identifier: str) -> Indicator:
    """The built-in indicator of that id, of BUILTIN. Raises KeyError."""
    return cast("Indicator", _made(BUILTIN[identifier]))  # a test holds every entry to the protocol


def load_sobriety(identifier: str) -> SobrietyIndicator:
    """The same of SOBRIETY. Raises KeyError."""
    return cast("SobrietyIndicator", _made(SOBRIETY[identifier]))


def _made(place: str) -> object:
    module, _, name = place.partition(":")
    made: object = getattr(import_module(module), name)()
    return made
