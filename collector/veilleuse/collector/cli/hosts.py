# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse hosts list|show|activate|suspend|revoke|forget|export`.

Of a workstation or a classroom PC, only its health and the date of its last contact are shown, never its
activity.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from veilleuse.collector.cli.language import translate_cell
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    WhyOption,
    confirm,
    day,
    load_settings,
    moment,
    new_private,
    plural,
    print_facts,
    print_json,
    print_note,
    print_result,
    run_operation,
    who_and_why,
)
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.ipc import one_host
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import export_host, open_reader
from veilleuse.collector.store.directory import REPLACED_PREFIX
from veilleuse.wire.limits import AGENT_ID_DIGITS, AGENT_ID_DIGITS_MINIMUM
from veilleuse.wire.vocabulary import Population

app = typer.Typer(**APP)
FORGET_SECONDS: Final = 600.0
_HOST_HELP: Final = f"agent id, or its first {AGENT_ID_DIGITS_MINIMUM} digits or more"
HostArgument = Annotated[str, typer.Argument(metavar="HOST", help=_HOST_HELP)]
OneOrNone = Annotated[str | None, typer.Argument(metavar="HOST", help=_HOST_HELP)]
YesOption = Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")]
CopiesOption = Annotated[
    str | None,
    typer.Option(
        "--copies-of",
        metavar="HOST",
        help="all machines that wait as copies of this one, instead of one machine",
    ),
]


@app.callback()
def hosts() -> None:
    """List and show enrolled machines; change their status; forget or export one."""


@app.command(name="list")
def list_hosts(
    config: ConfigOption = None,
    status: Annotated[HostStatus | None, typer.Option(help="only machines with this status")] = None,
    population: Annotated[Population | None, typer.Option(help="only machines of this population")] = None,
    copies: Annotated[
        bool, typer.Option("--copies", help="only machines that declared to be copies of another")
    ] = False,
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="only identities that two machines used")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List machines."""
    hosts = _read(load_settings(config))
    found = [
        _facts(host, hosts)
        for host in hosts
        if status in (None, host.status)
        and population in (None, host.population)
        and (host.copy_of is not None or not copies)
        and (host.conflicts or not conflicts)
    ]
    rows = [
        {
            "host": facts["agent_id"][:AGENT_ID_DIGITS],
            "status": facts["status"],
            "population": facts["population"],
            "class": facts["device_class"],
            "entity": facts["org_entity"],
            "site": facts["site"],
            "last contact": facts["last_contact"],
            "note": _note(facts),
            "spool": "" if facts["health"] is None else str(facts["health"]["spool_records"]),
        }
        for facts in found
    ]
    none = "no host yet: 'veilleuse token create', then 'veilleuse-agent enrol' on a machine"
    print_result(found, rows, as_json, empty=f"none of {len(hosts)} host(s) matches" if hosts else none)


@app.command()
def show(
    host: HostArgument,
    config: ConfigOption = None,
    name: Annotated[
        bool, typer.Option("--name", help="show the name that a server sent; the access journal notes it")
    ] = False,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show one machine: its place, and the health of its agent."""
    settings = load_settings(config)
    hosts = _read(settings)
    facts = _facts(one_host(hosts, host), hosts)
    if name:
        asked = who_and_why(why, "hosts show --name")
        facts["host_name"] = run_operation(settings, "host_name", host=facts["agent_id"], **asked)[
            "host_name"
        ]
    if as_json:
        print_json(facts)
        return
    health = facts.pop("health")
    facts["copy_of"] = facts["copy_of"] or "none"
    shown = {key.replace("_", " "): _text(value) for key, value in (facts | (health or {})).items()}
    print_facts(shown, 28)


@app.command()
def activate(
    host: OneOrNone = None,
    copies_of: CopiesOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a pending machine, or end a suspension. With --copies-of, approve all waiting copies."""
    _require_one(host, copies_of)
    _set_or_decide(config, host, copies_of, HostStatus.ACTIVE, as_json)


@app.command()
def suspend(host: HostArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Refuse a machine until it is activated again. Holds from its next call on."""
    _set_or_decide(config, host, None, HostStatus.SUSPENDED, as_json)


@app.command()
def revoke(
    host: OneOrNone = None,
    copies_of: CopiesOption = None,
    config: ConfigOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Refuse a machine for ever, from its next call on. It has to enrol again.

    With --copies-of, refuse all waiting copies of a machine.
    """
    _require_one(host, copies_of)
    known = _read(load_settings(config))
    found = one_host(known, host or copies_of or "")
    if host is not None:
        what = f"revoke {_describe(found)}: refused for ever from its next call, it has to enrol again"
    else:
        waiting = sum(one.copy_of == found.host_id and one.status is HostStatus.PENDING for one in known)
        what = (
            f"refuse for ever {waiting} {plural(waiting, 'machine')} pending as copies of {_describe(found)}"
        )
    _require_yes(what, yes, "nothing was revoked")
    # All digits: a machine that enrols meanwhile may have the same first ones.
    agent_id = found.agent_id.hex()
    _set_or_decide(config, host and agent_id, copies_of and agent_id, HostStatus.REVOKED, as_json)


@app.command()
def forget(
    host: HostArgument,
    why: WhyOption,
    config: ConfigOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete all data of one machine. It cannot be undone; sums of the fleet stay."""
    settings = load_settings(config)
    found = one_host(_read(settings), host)
    _require_yes(f"forget {_describe(found)}, with all its records", yes, "nothing was deleted")
    agent_id = found.agent_id.hex()
    asked = who_and_why(why, "hosts forget")
    done = run_operation(settings, "host_forget", timeout_seconds=FORGET_SECONDS, host=agent_id, **asked)
    kept = sorted(path.name for path in settings.data_dir.glob(f"{REPLACED_PREFIX}*"))
    print_result({**done, "kept_in": kept}, f"host {agent_id[:AGENT_ID_DIGITS]}: forgotten", as_json)
    if not done["swept"]:
        print_note("a reader was busy: the next checkpoint removes the machine from the files")
    if not done["compact"]:
        print_note(
            "data.db is too large to be rewritten while the collector runs, or its disk is too full: "
            "deleted bytes may stay in the file until their pages are used again; to remove them, stop "
            "'veilleuse serve' and run: sqlite3 data.db VACUUM"
        )
    for name in kept:
        print_note(
            f"the folder that a restore put aside may still hold it: remove {settings.data_dir / name}"
        )


@app.command()
def export(
    host: HostArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write, mode 0600")],
    config: ConfigOption = None,
    why: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write all data of one machine to a file. For a person with a right to these data."""
    settings = load_settings(config)
    found = one_host(_read(settings), host)
    agent_id = found.agent_id.hex()
    with new_private(output) as file:
        identity = run_operation(settings, "host_identity", host=agent_id, **who_and_why(why, "hosts export"))
        rows = _write_export(file, settings.data_dir, found, identity)
    written = sum(rows.values())
    done = f"host {agent_id[:AGENT_ID_DIGITS]}: {written} {plural(written, 'row')} in {output}"
    print_result({"agent_id": agent_id, "output": str(output), "rows": rows}, done, as_json)


def _write_export(file: TextIO, data_dir: Path, host: Host, identity: dict[str, Any]) -> dict[str, int]:
    """Write one row per line, because a server may have millions; returns table → number of rows."""
    rows: dict[str, int] = {}
    file.write(json.dumps({"identity": identity}, ensure_ascii=False)[:-1])
    for table, found in export_host(data_dir, host.host_id):
        rows[table] = 0
        file.write(f',\n"{table}": [')
        for row in found:
            file.write(",\n" if rows[table] else "\n")
            file.write(json.dumps(row, ensure_ascii=False))
            rows[table] += 1
        file.write("]")
    file.write("}\n")
    return rows


def _require_yes(what: str, yes: bool, otherwise: str) -> None:
    """Ask for confirmation at a terminal, unless `yes`.

    Raises AdminError, which begins with `otherwise`, without a confirmation.
    """
    question = f"{what[:1].upper()}{what[1:]}. Go on?"
    if yes or confirm(question):
        return
    raise AdminError(f"{otherwise}: say y at a terminal, or give --yes, to {what}")


def _describe(host: Host) -> str:
    """Describe a machine for an operator, before a step that cannot be undone."""
    when = moment if host.population is Population.SERVER else day
    return (
        f"host {host.agent_id.hex()[:AGENT_ID_DIGITS]} ({host.population} of {host.org_entity} at "
        f"{host.site}, {host.status}, last contact {when(host.last_contact_unix_milliseconds)})"
    )


def _require_one(host: str | None, copies_of: str | None) -> None:
    if (host is None) == (copies_of is None):
        raise UsageError(
            "name one host, or --copies-of with the host that was copied: see 'veilleuse hosts list --copies'"
        )


def _set_or_decide(
    config: Any, host: str | None, copies_of: str | None, status: HostStatus, as_json: bool
) -> None:
    settings = load_settings(config)
    if host is not None:
        done = run_operation(settings, "host_status", host=host, status=status.value)
        text = f"host {done['agent_id'][:AGENT_ID_DIGITS]}: {done['before']} → {done['status']}"
    else:
        done = run_operation(settings, "host_copies", original=copies_of, status=status.value)
        text = (
            f"copies of {done['copy_of'][:AGENT_ID_DIGITS]}: {len(done['hosts'])} pending → {done['status']}"
        )
    print_result(done, text, as_json)


def _read(settings: CollectorSettings) -> tuple[Host, ...]:
    with open_reader(settings.data_dir) as store:
        return store.data.hosts()


def _facts(host: Host, hosts: Sequence[Host]) -> dict[str, Any]:
    server = host.population is Population.SERVER
    when = moment if server else day
    original = next((one for one in hosts if one.host_id == host.copy_of), None)
    facts: dict[str, Any] = {
        "agent_id": host.agent_id.hex(),
        "status": host.status.value,
        "population": host.population.value,
        "device_class": host.facts.device_class.value,
        "org_entity": host.org_entity,
        "site": host.site,
        "enrolled_on": host.enrolled_on.isoformat(),
        "last_contact": when(host.last_contact_unix_milliseconds),
        "copy_of": None if original is None else original.agent_id.hex(),
        "original_status": None if original is None else original.status.value,
        "conflicts": host.conflicts,
        "configuration": None if host.configuration is None else host.configuration.state.value,
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


def _note(facts: dict[str, Any]) -> str:
    """Return what an operator should check."""
    notes = []
    if facts["copy_of"]:
        put_out = (
            "" if facts["original_status"] == HostStatus.ACTIVE else f", which is {facts['original_status']}"
        )
        notes.append(f"copy of {facts['copy_of'][:AGENT_ID_DIGITS]}{put_out}")
    notes += [f"{facts['conflicts']} conflict(s)"] if facts["conflicts"] else []
    return ", ".join(notes)


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
        return ", ".join(f"{key}: {translate_cell(str(part))}" for key, part in value.items()) or "none"
    return str(value)
