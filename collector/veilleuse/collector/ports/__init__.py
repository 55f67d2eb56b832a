# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Every seam between a stage and the store, with its contract."""

from veilleuse.collector.model.factors import ChosenFactor, Factor
from veilleuse.collector.ports.derive import Calibrations, DeriveStore, MeteringStore
from veilleuse.collector.ports.imports import (
    FactorReader,
    Factors,
    FactorSource,
    FollowReader,
    Follows,
    Intensities,
    IntensityReader,
    InventoryReader,
    InventoryStore,
)
from veilleuse.collector.ports.indicators import Indicator, LoadReader, SobrietyIndicator
from veilleuse.collector.ports.ingest import Authoriser, Committer, IngestStore, Renewer
from veilleuse.collector.ports.months import RollReader, RollStore
from veilleuse.collector.ports.readers import HourReader, PeriodReader, Reader
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
    "PeriodReader",
    "Reader",
    "Registry",
    "Renewer",
    "RollReader",
    "RollStore",
    "SobrietyIndicator",
]
