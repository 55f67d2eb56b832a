# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Shared meters: what is declared against what agents read. A name that is typed in two ways shows up here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.model.meters import rooms_without_meter
from veilleuse.collector.reports.emissions import servers_in_no_room_on, today
from veilleuse.collector.reports.inputs import sources_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_DAY, NANOSECONDS_PER_MILLISECOND

SILENT_DAYS: Final = 2
"""A meter that nobody has read for longer is worth a word: who polls it contacts the collector hourly at least."""
_NAMED: Final = 3
"""Meters or servers named in a line; the others are counted."""


def check_meters(settings: CollectorSettings) -> Iterator[Finding]:
    """Declared and not read: its machines fall down the ladder. Read and not declared: it counts for nobody. A server in no room: it counts
    in its class, and again in what is left of its room."""
    with open_reader(settings.data_dir) as store:
        declared, read = (
            [meter.meter for meter in store.metering.declarations().meters],
            store.metering.last_read(),
        )
    since = time.time_ns() // NANOSECONDS_PER_MILLISECOND - SILENT_DAYS * MILLISECONDS_PER_DAY
    silent = [meter for meter in declared if read.get(meter, 0) < since]
    unknown = sorted(set(read) - set(declared))
    if silent:
        text = f"{len(silent)} of {len(declared)} declared meter(s) not read for {SILENT_DAYS} days: {_names(silent)}"
        remedy = "its machines are modelled meanwhile; 'veilleuse-agent poll --once' where it is polled; is its name the same?"
        yield Finding("meters", "warning", text, remedy)
    elif declared:
        yield Finding("meters", "good", f"{len(declared)} shared meter(s) declared, all of them read")
    if unknown:
        text = f"{len(unknown)} meter(s) are read, and nobody has declared them: {_names(unknown)}"
        yield Finding("meters", "warning", text, "'veilleuse meters import': say whose they are")
    with open_reader(settings.data_dir) as store:
        sources = sources_of(store, settings.reporting)
        placed_nowhere = servers_in_no_room_on(sources, today())
        without = list(rooms_without_meter(sources.metering.declarations(), today()))
    for text, is_misspelt in without:
        remedy = "'veilleuse meters import': declare a meter of that room, or place its servers in the room that is meant"
        yield Finding("meters", "warning", text, remedy) if is_misspelt else Finding("meters", "good", text)
    if placed_nowhere:
        text = (
            f"{len(placed_nowhere)} server(s) of a site with a metered room are declared in no room, and may count twice: "
            f"{_names(placed_nowhere)}"
        )
        yield Finding(
            "meters",
            "warning",
            text,
            "'veilleuse meters import': say in which room each is; * is every other one",
        )


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
