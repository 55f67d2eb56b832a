# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the contract between each stage and the store."""

from veilleuse.collector.model.factors import ChosenFactor, Factor
from veilleuse.collector.ports.imports import (
    ActionReader,
    ActionStore,
    FactorReader,
    Factors,
    FactorSource,
    Intensities,
    IntensityReader,
    InventoryReader,
    InventoryStore,
)
from veilleuse.collector.ports.months import ClosedYearReader, MonthReader, MonthStore, PublicationReader
from veilleuse.collector.ports.registry import (
    AccountReader,
    Accounts,
    Calendars,
    Configurations,
    HostEraser,
    Registry,
)
from veilleuse.collector.ports.stages import (
    Authoriser,
    Calibrations,
    Committer,
    DeriveStore,
    Indicator,
    IngestStore,
    MachineRatio,
    MeteringStore,
    Renewer,
)
from veilleuse.collector.ports.store import (
    BoundedReader,
    DataReader,
    HourReader,
    LoadReader,
    MeteringReader,
    PeriodReader,
    QueryReader,
    Reader,
    ReferenceReader,
)

__all__ = [
    "AccountReader",
    "Accounts",
    "ActionReader",
    "ActionStore",
    "Authoriser",
    "BoundedReader",
    "Calendars",
    "Calibrations",
    "ChosenFactor",
    "ClosedYearReader",
    "Committer",
    "Configurations",
    "DataReader",
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
    "MachineRatio",
    "MeteringReader",
    "MeteringStore",
    "MonthReader",
    "MonthStore",
    "PeriodReader",
    "PublicationReader",
    "QueryReader",
    "Reader",
    "ReferenceReader",
    "Registry",
    "Renewer",
]
