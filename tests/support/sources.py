# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What reports read of a data directory, opened as commands open it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilleuse.collector.reports.inputs import SobrietySources, Sources, sobriety_sources_of, sources_of
from veilleuse.collector.settings import ReportingSettings
from veilleuse.collector.store import open_reader


@contextmanager
def opened(directory: Path, reporting: ReportingSettings) -> Iterator[Sources]:
    """For the emissions report and what is like it."""
    with open_reader(directory) as store:
        yield sources_of(store, reporting)


@contextmanager
def opened_for_sobriety(directory: Path, reporting: ReportingSettings) -> Iterator[SobrietySources]:
    """For I3 to I12 and I14."""
    with open_reader(directory) as store:
        yield sobriety_sources_of(store, reporting)
