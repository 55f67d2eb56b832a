# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse restore FILE`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.app.data_directory import open_collector, require_ours
from veilleuse.collector.backup.restore import RestoreResult, give_to_owner
from veilleuse.collector.backup.restore import restore as put_back
from veilleuse.collector.cli.backup import KeyFileOption, read_backup_key
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    load_settings,
    print_json,
)
from veilleuse.collector.enrolment.register import register_file
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.store.directory import DATA_FILE, is_half_restored
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

app = typer.Typer(**APP)

RING_HOURS: Final = 72
"""Hours that agents keep acknowledged records: docs/wire.md §2."""


@app.command()
def restore(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="backup to restore; none: continue an interrupted restore"),
    ] = None,
    config: ConfigOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup. The collector must be stopped; existing data are put aside, not deleted."""
    settings = load_settings(config)
    if file is not None and file.is_dir():
        raise UsageError(f"{file} is a directory: name one backup in it{_newest(file)}")
    data_dir, now = settings.data_dir, datetime.now(UTC)
    if not (data_dir / DATA_FILE).exists() and not is_half_restored(data_dir):
        require_ours(data_dir)  # a mistyped data_dir must not change the rights of other files
    restored, carried_on = put_back(data_dir, file, lambda: read_backup_key(settings, key_file), now)
    register = register_file(data_dir, settings.pki.register_file)
    has_register = register.exists()
    # Migrates the databases, replays the register, and proves that the data directory opens.
    with open_collector(settings) as collector:
        statuses = _status_counts(collector.store.registry.hosts())
    give_to_owner(data_dir, data_dir)
    facts = {
        "data_dir": str(data_dir),
        "created_unix_milliseconds": restored.manifest.created_unix_milliseconds,
        "age_hours": round(
            (now.timestamp() - restored.manifest.created_unix_milliseconds / MILLISECONDS_PER_SECOND) / 3600,
            2,
        ),
        "simulated": restored.manifest.simulated,
        "carried_on": carried_on,
        "replaced": str(restored.replaced) if restored.replaced else None,
        "register": str(register) if has_register else None,
        "hosts": statuses,
    }
    if as_json:
        print_json(facts)
    else:
        print("\n".join(_lines(restored, facts)))
    if not has_register:
        print(
            f"veilleuse: no register {register}: machines revoked since the backup are accepted again, "
            "machines enrolled since are unknown; put the register back and run 'veilleuse restore' again, "
            "or revoke and enrol them again",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_WARNINGS)


def _newest(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("veilleuse-*.backup"))
    return f", the newest is {names[-1]}" if names else ""


def _status_counts(hosts: Any) -> dict[str, int]:
    """Count machines by status."""
    return {
        status.value: number
        for status in HostStatus
        if (number := sum(host.status is status for host in hosts))
    }


def _lines(restored: RestoreResult, facts: dict[str, Any]) -> list[str]:
    """Return the result as lines for people, with the next step."""
    begun = "continued: " if facts["carried_on"] else ""
    of = f"the {'simulated ' if facts['simulated'] else ''}collector of {restored.manifest.created}"
    known = ", ".join(f"{number} {status}" for status, number in facts["hosts"].items()) or "none"
    since = (
        f"; enrolments and revocations made since come from {facts['register']}" if facts["register"] else ""
    )
    lines = [
        f"{begun}{facts['data_dir']} is {of} again, {facts['age_hours']:.1f} h old",
        f"machines: {known}{since}",
    ]
    if restored.replaced is not None:
        kept = f"the data that it replaced are in {restored.replaced}"
        lines.append(f"{kept}: remove the folder when the restore is confirmed good, it holds keys and names")
    lines.append(
        "start 'veilleuse serve': at its next contact, each agent sends the records that are missing here, "
        f"back to {RING_HOURS} h; records that no agent has any more become declared gaps. Do nothing on the "
        "machines."
    )
    return lines
