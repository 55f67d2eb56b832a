# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines every seam of the collector with its contract:
`core` for the data path, `months`, and `readers` for reports.
"""

from veilleuse.collector.model.factors import ChosenFactor, Factor
from veilleuse.collector.ports.core import (
    Authoriser,
    Calendars,
    Calibrations,
    Committer,
    Configurations,
    DeriveStore,
    HostEraser,
    Indicator,
    IngestStore,
    MeteringStore,
    Reader,
    Registry,
    Renewer,
)
from veilleuse.collector.ports.months import MonthReader, MonthStore
from veilleuse.collector.ports.readers import (
    AccountReader,
    Accounts,
    ActionReader,
    ActionStore,
    FactorReader,
    Factors,
    FactorSource,
    HourReader,
    Intensities,
    IntensityReader,
    InventoryReader,
    InventoryStore,
    LoadReader,
    PeriodReader,
    SobrietyIndicator,
)

__all__ = [
    "AccountReader",
    "Accounts",
    "ActionReader",
    "ActionStore",
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
    "HostEraser",
    "HourReader",
    "Indicator",
    "IngestStore",
    "Intensities",
    "IntensityReader",
    "InventoryReader",
    "InventoryStore",
    "LoadReader",
    "MeteringStore",
    "MonthReader",
    "MonthStore",
    "PeriodReader",
    "Reader",
    "Registry",
    "Renewer",
    "SobrietyIndicator",
]
