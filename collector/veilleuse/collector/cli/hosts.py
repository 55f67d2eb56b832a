# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse hosts list|show|activate|suspend|revoke`.

Of a workstation or a classroom PC only its health is shown, and the date of its last contact: never what it did.
"""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from veilleuse.collector.admin_client import one_host
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    day,
    moment,
    perform,
    print_json,
    print_table,
    settings_of,
)
from veilleuse.collector.model import Host, HostStatus
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite import SqliteReader
from veilleuse.wire.vocabulary import Population

app = typer.Typer(**APP)
HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="agent id, or the beginning of it")]


@app.callback()
def hosts() -> None:
    """Enrolled machines."""


@app.command(name="list")
def list_hosts(
    config: ConfigOption = None,
    status: Annotated[HostStatus | None, typer.Option(help="only those with this status")] = None,
    population: Annotated[Population | None, typer.Option(help="only those of this population")] = None,
    as_json: JsonOption = False,
) -> None:
    """List machines."""
    found = [
        _facts(host)
        for host in _read(settings_of(config))
        if status in (None, host.status) and population in (None, host.population)
    ]
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "host": facts["agent_id"][:12],
            "status": facts["status"],
            "population": facts["population"],
            "class": facts["device_class"],
            "entity": facts["org_entity"],
            "site": facts["site"],
            "last contact": facts["last_contact"],
            "spool": "" if facts["health"] is None else str(facts["health"]["spool_records"]),
        }
        for facts in found
    ]
    print_table(
        rows, empty="no host yet: 'veilleuse token create', then 'veilleuse-agent enrol' on a machine"
    )


@app.command()
def show(
    host: HostArgument,
    config: ConfigOption = None,
    name: Annotated[
        bool, typer.Option("--name", help="show the name a server gave; noted in the access journal")
    ] = False,
    why: Annotated[str, typer.Option(help="reason, for the access journal")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show one machine: where it belongs, and how its agent is doing."""
    settings = settings_of(config)
    facts = _facts(one_host(_read(settings), host))
    if name:
        reason = why or "veilleuse hosts show --name"
        facts["host_name"] = perform(
            settings, "host_name", host=facts["agent_id"], who=getpass.getuser(), why=reason
        )["host_name"]
    if as_json:
        print_json(facts)
        return
    health = facts.pop("health")
    for key, value in (facts | (health or {})).items():
        print(f"{key.replace('_', ' '):28} {_text(value)}")


@app.command()
def activate(host: HostArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Approve a pending machine, or end a suspension."""
    _set(config, host, HostStatus.ACTIVE, as_json)


@app.command()
def suspend(host: HostArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Refuse a machine until it is activated again. Holds from its next call."""
    _set(config, host, HostStatus.SUSPENDED, as_json)


@app.command()
def revoke(host: HostArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Refuse a machine for ever: it has to enrol again. Holds from its next call."""
    _set(config, host, HostStatus.REVOKED, as_json)


def _set(config: Any, host: str, status: HostStatus, as_json: bool) -> None:
    done = perform(settings_of(config), "host_status", host=host, status=status.value)
    if as_json:
        print_json(done)
    else:
        print(f"host {done['agent_id'][:12]}: {done['before']} → {done['status']}")


def _read(settings: CollectorSettings) -> tuple[Host, ...]:
    reader = SqliteReader(settings.data_dir)
    try:
        return reader.hosts()
    finally:
        reader.close()


def _facts(host: Host) -> dict[str, Any]:
    server = host.population is Population.SERVER
    when = moment if server else day
    facts: dict[str, Any] = {
        "agent_id": host.agent_id.hex(),
        "status": host.status.value,
        "population": host.population.value,
        "device_class": host.facts.device_class.value,
        "org_entity": host.org_entity,
        "site": host.site,
        "enrolled_on": host.enrolled_on.isoformat(),
        "last_contact": when(host.last_contact_unix_milliseconds),
        "health": _health(host),
    }
    if server:
        machine = host.facts
        facts |= {"vendor": machine.vendor, "model": machine.model, "cpu_model": machine.cpu_model}
        facts |= {
            "cpu_count": machine.cpu_count,
            "memory_bytes": machine.memory_bytes,
            "virtualisation": machine.virtualisation,
        }
    return facts


def _health(host: Host) -> dict[str, Any] | None:
    health = host.health
    if health is None:
        return None
    return {
        "agent_version": health.agent_version,
        "spool_records": health.spool_records,
        "spool_bytes": health.spool_bytes,
        "dropped_records": {reason.value: records for reason, records in health.drops},
        "sources": {
            source.name: source.unavailable or f"{source.successes} read, {source.failures} failed"
            for source in health.sources
        },
        "resident_rss_bytes": health.resident_rss_bytes,
        "resident_cpu_milliseconds": health.resident_cpu_milliseconds,
    }


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {part}" for key, part in value.items()) or "none"
    return str(value)
