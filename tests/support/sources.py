# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Open the sources of reports in a data directory as the commands open them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.readers import SobrietySources, sobriety_sources_of, sources_of
from veilleuse.collector.settings import ReportingSettings
from veilleuse.collector.store import open_reader


@contextmanager
def opened(directory: Path, reporting: ReportingSettings) -> Iterator[Sources]:
    """Give the sources of the emissions report and similar reports while the block runs."""
    with open_reader(directory) as store:
        yield sources_of(store, reporting)


@contextmanager
def opened_for_sobriety(directory: Path, reporting: ReportingSettings) -> Iterator[SobrietySources]:
    """Give the sources of the indicators I3 to I12 and I14 while the block runs."""
    with open_reader(directory) as store:
        yield sobriety_sources_of(store, reporting)
