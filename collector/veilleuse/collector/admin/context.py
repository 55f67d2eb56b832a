# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the context of an operation: an open data directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from veilleuse.collector.admin.uploads import Uploads, open_publication_uploads
from veilleuse.collector.backup.copies import Backups
from veilleuse.collector.derive.worker import DeriveWorker
from veilleuse.collector.enrolment.issuing import IssuingContext
from veilleuse.collector.enrolment.tokens import Addresses
from veilleuse.collector.factors.book import KnownFactors
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ingest.hello import PopulationConfigs
from veilleuse.collector.months.worker import MonthWorker
from veilleuse.collector.ports.store import WriteStore
from veilleuse.collector.settings import CollectorSettings

T = TypeVar("T")

ALONE_SECONDS: Final = 60.0
"""Longest wait for a job outside transactions."""


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """Facts of the process that opened the data directory."""

    version: str
    addresses: Addresses
    health: Health
    started_unix_milliseconds: int = field(default_factory=lambda: round(time.time() * 1000))

    def listening_since(self) -> int:
        """Return Health.listening_since for the start of this process (Unix milliseconds)."""
        return self.health.listening_since(self.started_unix_milliseconds)


@dataclass(frozen=True, slots=True)
class AdminContext:
    """Parts of an open data directory that operations use. Safe to share between threads."""

    settings: CollectorSettings
    process: ProcessFacts
    issuing: IssuingContext
    """Jobs of the writer, the registry, the authority and the clock."""
    store: WriteStore
    """Use it only inside jobs of the writer.

    `inventory` and `forgetting.sweep` need a job outside transactions: `alone`.
    """
    known_factors: KnownFactors
    """Use it only inside jobs of the writer."""
    configuring: PopulationConfigs
    derive: DeriveWorker
    rolls: MonthWorker
    backups: Backups
    fleet_key: str = field(repr=False)
    """64 hexadecimal digits: key of the asset pseudonyms of this fleet."""
    uploads: Uploads = field(default_factory=Uploads)
    publishing: Uploads = field(default_factory=open_publication_uploads)

    def alone(self, job: Callable[[], T]) -> T:
        """Run a job of the writer outside any transaction, and wait for its result.

        Raises errors of the job.
        """
        return self.issuing.writer.submit(job, alone=True).result(ALONE_SECONDS)
