# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rows that both the registry and the reader turn into the model."""

from __future__ import annotations

import sqlite3
from datetime import date
from typing import Any, Final

from veilleuse.collector.model.records import (
    AgentId,
    AppliedConfiguration,
    AppliedState,
    DataKind,
    Host,
    HostId,
    HostStatus,
    Site,
)
from veilleuse.collector.wire_codec import POPULATIONS, facts_from_wire, health_from_wire

HOST_COLUMNS: Final = (
    "host_id, agent_id, org_entity, site, population, status, enrolled_day, last_contact_unix_milliseconds, facts, health,"
    " configuration_sha256, configuration_state, copy_of, conflicts, used_generation"
)
CONTACT_COLUMNS: Final = HOST_COLUMNS.replace("facts, health", "NULL, NULL")
"""HOST_COLUMNS without the documents: most of what a row takes to read."""
SITE_COLUMNS: Final = "site, zone, time_zone, calendar_json"


def host_from_row(row: Any) -> Host:
    """HOST_COLUMNS → Host."""
    host_id, agent_id, org_entity, site, population, status, enrolled_day, last_contact, *more = row
    facts, health, configuration_sha256, configuration_state, copy_of, conflicts, used_generation = more
    return Host(
        host_id=HostId(host_id),
        agent_id=AgentId(agent_id),
        org_entity=org_entity,
        site=site,
        population=POPULATIONS[population],
        status=HostStatus(status),
        facts=facts_from_wire(facts or b""),
        enrolled_on=date.fromordinal(enrolled_day),
        last_contact_unix_milliseconds=last_contact,
        health=None if health is None else health_from_wire(health),
        configuration=None
        if configuration_sha256 is None
        else AppliedConfiguration(configuration_sha256, AppliedState(configuration_state)),
        copy_of=None if copy_of is None else HostId(copy_of),
        conflicts=conflicts,
        used_generation=used_generation,
    )


def site_from_row(row: Any) -> Site:
    """SITE_COLUMNS → Site."""
    return Site(*row)


def read_data_kind(connection: sqlite3.Connection) -> DataKind:
    """The meta table: `simulated` (0 or 1), `created_unix_milliseconds`, and what else is there."""
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    return DataKind(
        simulated=meta.pop("simulated", "0") == "1",
        created_unix_milliseconds=int(meta.pop("created_unix_milliseconds", "0")),
        schema_version=version,
        extra=meta,
    )
