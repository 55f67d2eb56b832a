# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the contract between each stage and the store."""

from veilleuse.collector.model.factors import ChosenFactor, Factor
from veilleuse.collector.ports.derive import Calibrations, DeriveStore, MeteringStore
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
from veilleuse.collector.ports.indicators import (
    GaugedIndicator,
    Indicator,
    LoadReader,
    MachineRatio,
    SobrietyIndicator,
)
from veilleuse.collector.ports.ingest import Authoriser, Committer, IngestStore, Renewer
from veilleuse.collector.ports.months import MonthReader, MonthStore
from veilleuse.collector.ports.publications import ClosedYearReader, PublicationReader
from veilleuse.collector.ports.readers import (
    BoundedReader,
    DataReader,
    HourReader,
    MeteringReader,
    PeriodReader,
    QueryReader,
    Reader,
    ReferenceReader,
)
from veilleuse.collector.ports.registry import (
    AccountReader,
    Accounts,
    Calendars,
    Configurations,
    HostEraser,
    Registry,
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
    "GaugedIndicator",
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
    "SobrietyIndicator",
]
