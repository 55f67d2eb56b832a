# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A data directory with all its seams, as composition roots open it."""

from __future__ import annotations

from typing import Protocol

from veilleuse.collector.ports.derive import Calibrations, DeriveStore, MeteringStore
from veilleuse.collector.ports.imports import Factors, Follows, Intensities, InventoryStore
from veilleuse.collector.ports.publications import ClosedYears, Publications
from veilleuse.collector.ports.registry import Accounts, Calendars, HostEraser


class WriteStore(Protocol):
    """The writing side, in the writer's thread. What one job does is one transaction of data.db."""

    @property
    def derive(self) -> DeriveStore: ...
    @property
    def forgetting(self) -> HostEraser: ...
    @property
    def calendars(self) -> Calendars: ...
    @property
    def calibrations(self) -> Calibrations: ...
    @property
    def metering(self) -> MeteringStore: ...
    @property
    def factors(self) -> Factors: ...
    @property
    def intensities(self) -> Intensities: ...
    @property
    def inventory(self) -> InventoryStore: ...
    @property
    def accounts(self) -> Accounts: ...
    @property
    def closings(self) -> ClosedYears: ...
    @property
    def publications(self) -> Publications: ...
    @property
    def follows(self) -> Follows: ...
