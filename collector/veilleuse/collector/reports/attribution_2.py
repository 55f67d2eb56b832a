# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What `veilleuse report attribution` says of one machine: of a server only, whoever asks. PROMISES.md §3.2."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.derive.attribution import attribution
from veilleuse.collector.documents.document import Document
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.ipc.admin_client import one_host
from veilleuse.collector.model.records import Host
from veilleuse.collector.reports.attribution import document
from veilleuse.collector.store.sqlite import SqliteReader
from veilleuse.wire.limits import AGENT_ID_DIGITS
from veilleuse.wire.vocabulary import DeviceClass, Population

LONGEST_DAYS: Final = 400


def attribution_document(
    reader: SqliteReader, beginning: str, first: date, end: date, now_unix_milliseconds: int
) -> Document:
    """The report of the server whose agent id begins so, over the civil days [first, end) of its site.

    Raises UsageError for a period, AdminError for a machine it cannot be asked of.
    """
    if not first < end <= first + timedelta(days=LONGEST_DAYS):
        raise UsageError(f"--from {first} must be before --to {end}, by at most {LONGEST_DAYS} days")
    host = one_host(reader.hosts(), beginning)
    _require_server(host)
    site = next(site for site in reader.sites() if site.site == host.site)
    since, until = (day_start_unix_milliseconds(day, site.time_zone) for day in (first, end))
    hours = tuple(reader.host_hours(host.host_id, since, until))
    if not hours:
        raise AdminError(
            f"host {host.agent_id.hex()[:AGENT_ID_DIGITS]} has no record of {first} to {end}: its energy is not known; see 'veilleuse hosts show'"
        )
    found = attribution(hours, host.facts)
    return document(
        found,
        {
            "host": host.agent_id.hex(),
            "from": first.isoformat(),
            "to": end.isoformat(),
            "time_zone": site.time_zone,
            "entity": host.org_entity,
            "site": host.site,
            "device_class": host.facts.device_class.value,
            "data": "simulated" if reader.data_kind().simulated else "real",
            "method_version": METHOD_VERSION,
            "periods_not_derived": reader.dirty_count(),
            "generated_unix_milliseconds": now_unix_milliseconds,
        },
        memo=host.facts.device_class is DeviceClass.VIRTUAL_MACHINE,
    )


def _require_server(host: Host) -> None:
    if host.population is not Population.SERVER:
        raise AdminError(
            f"host {host.agent_id.hex()[:AGENT_ID_DIGITS]} is of the population {host.population.value}: energy is shared between the "
            "services of servers only, never of a machine that people sit at"
        )
