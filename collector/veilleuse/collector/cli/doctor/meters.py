# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares the declared shared meters with the meters that agents read: finds names that differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.model.meters import rooms_without_meter
from veilleuse.collector.reports.emissions import servers_in_no_room_on
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_DAY

SILENT_DAYS: Final = 2
"""Days without a reading until a warning.

The agent that polls a meter contacts the collector at least hourly.
"""
_NAMED: Final = 3
"""Meters or servers that a line names; the others are counted."""


def check_meters(settings: CollectorSettings) -> Iterator[Finding]:
    """Compare declarations, readings and the rooms of servers.

    The machines of a meter that is declared and not read get their energy from the next best source. A meter
    that is read and not declared counts for no machine. A server in no room may count twice: in its class,
    and in the rest of its room.
    """
    with open_reader(settings.data_dir) as store:
        declared, read = (
            [meter.meter for meter in store.metering.declarations().meters],
            store.metering.last_read(),
        )
    since = clock.unix_milliseconds() - SILENT_DAYS * MILLISECONDS_PER_DAY
    silent = [meter for meter in declared if read.get(meter, 0) < since]
    unknown = sorted(set(read) - set(declared))
    if silent:
        text = (
            f"{len(silent)} of {len(declared)} declared meter(s) not read for {SILENT_DAYS} days: "
            f"{_names(silent)}"
        )
        remedy = (
            "its machines are modelled meanwhile; run 'veilleuse-agent poll --once' where it is polled, and "
            "compare its name there with the declared one"
        )
        yield Finding("meters", "warning", text, remedy)
    elif declared:
        yield Finding("meters", "good", f"{len(declared)} shared meter(s) declared, all of them read")
    if unknown:
        text = f"{len(unknown)} meter(s) are read, and nobody has declared them: {_names(unknown)}"
        yield Finding("meters", "warning", text, "declare them with 'veilleuse meters import'")
    with open_reader(settings.data_dir) as store:
        sources = sources_of(store, settings.reporting)
        placed_nowhere = servers_in_no_room_on(sources, clock.today())
        without = list(rooms_without_meter(sources.metering.declarations(), clock.today()))
    for text, is_misspelt in without:
        remedy = (
            "'veilleuse meters import': declare a meter of that room, or place its servers in the right room"
        )
        yield Finding("meters", "warning", text, remedy) if is_misspelt else Finding("meters", "good", text)
    if placed_nowhere:
        text = (
            f"{len(placed_nowhere)} server(s) of a site with a metered room are declared in no room, and may "
            f"count twice: {_names(placed_nowhere)}"
        )
        yield Finding(
            "meters",
            "warning",
            text,
            "'veilleuse meters import': say in which room each is; * stands for all others",
        )


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
