# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Every seam of the collector and its contract: `core` for the way of the data, `accounts` for the yearly figure."""

from veilleuse.collector.ports.accounts import InventoryReader, PeriodReader
from veilleuse.collector.ports.core import (
    Authoriser,
    Calendars,
    Calibrations,
    ChosenFactor,
    Committer,
    Configurations,
    DeriveStore,
    Factor,
    FactorSource,
    Forgetting,
    Indicator,
    IngestStore,
    MeteringStore,
    Reader,
    Registry,
    Renewer,
)

__all__ = [
    "Authoriser",
    "Calendars",
    "Calibrations",
    "ChosenFactor",
    "Committer",
    "Configurations",
    "DeriveStore",
    "Factor",
    "FactorSource",
    "Forgetting",
    "Indicator",
    "IngestStore",
    "InventoryReader",
    "MeteringStore",
    "PeriodReader",
    "Reader",
    "Registry",
    "Renewer",
]
