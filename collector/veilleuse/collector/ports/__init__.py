# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Every seam of the collector and its contract: `core` for the way of the data, `factors`, `accounts` for the yearly figure."""

from veilleuse.collector.model.factors import ChosenFactor, Factor
from veilleuse.collector.ports.accounts import InventoryReader, PeriodReader
from veilleuse.collector.ports.admitted import AccountReader, Accounts
from veilleuse.collector.ports.core import (
    Authoriser,
    Calendars,
    Calibrations,
    Committer,
    Configurations,
    DeriveStore,
    Forgetting,
    Indicator,
    IngestStore,
    MeteringStore,
    Reader,
    Registry,
    Renewer,
)
from veilleuse.collector.ports.factors import FactorReader, Factors, FactorSource
from veilleuse.collector.ports.intensities import HourReader, Intensities, IntensityReader
from veilleuse.collector.ports.inventory import InventoryStore
from veilleuse.collector.ports.months import RollReader, RollStore
from veilleuse.collector.ports.sobriety import FollowReader, Follows, LoadReader, SobrietyIndicator

__all__ = [
    "AccountReader",
    "Accounts",
    "Authoriser",
    "Calendars",
    "Calibrations",
    "ChosenFactor",
    "Committer",
    "Configurations",
    "DeriveStore",
    "Factor",
    "FactorReader",
    "FactorSource",
    "Factors",
    "FollowReader",
    "Follows",
    "Forgetting",
    "HourReader",
    "Indicator",
    "IngestStore",
    "Intensities",
    "IntensityReader",
    "InventoryReader",
    "InventoryStore",
    "LoadReader",
    "MeteringStore",
    "PeriodReader",
    "Reader",
    "Registry",
    "Renewer",
    "RollReader",
    "RollStore",
    "SobrietyIndicator",
]
