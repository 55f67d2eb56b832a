# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse restore FILE`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.assembly import open_collector, require_ours
from veilleuse.collector.backup.restoring import Restored, hand_over
from veilleuse.collector.backup.restoring import restore as put_back
from veilleuse.collector.cli.backup import KeyFileOption, key_of
from veilleuse.collector.cli.shared import APP, ConfigOption, JsonOption, print_json, settings_of
from veilleuse.collector.model import HostStatus
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.directory import DATA_FILE

app = typer.Typer(**APP)

RING_HOURS: Final = 72
"""How far back agents keep what was acknowledged: PROMISES.md §2.2."""


@app.command()
def restore(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="a backup; none: carry on a restore that was cut")
    ] = None,
    config: ConfigOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in place. The collector must be stopped; what is there is kept aside, nothing is lost."""
    settings = settings_of(config)
    now = datetime.now(UTC)
    if not (settings.data_dir / DATA_FILE).exists():
        require_ours(settings.data_dir)  # whoever mistypes data_dir keeps the rights of what is there
    restored, carried_on = put_back(settings.data_dir, file, lambda: key_of(settings, key_file), now)
    with open_collector(settings) as collector:  # migrates, replays the register, and proves that it opens
        standing = _standing(collector.store.registry.hosts())
    hand_over(settings.data_dir, settings.data_dir)
    age_hours = (now.timestamp() - restored.manifest.created_unix_milliseconds / 1000) / 3600
    if as_json:
        print_json(
            {
                "data_dir": str(settings.data_dir),
                "created_unix_milliseconds": restored.manifest.created_unix_milliseconds,
                "age_hours": round(age_hours, 2),
                "simulated": restored.manifest.simulated,
                "carried_on": carried_on,
                "replaced": str(restored.replaced) if restored.replaced else None,
                "hosts": standing,
            }
        )
        return
    for line in _lines(settings, restored, carried_on=carried_on, standing=standing, age_hours=age_hours):
        print(line)


def _standing(hosts: Any) -> dict[str, int]:
    """Machines by status."""
    return {
        status.value: number
        for status in HostStatus
        if (number := sum(host.status is status for host in hosts))
    }


def _lines(
    settings: CollectorSettings,
    restored: Restored,
    *,
    carried_on: bool,
    standing: dict[str, int],
    age_hours: float,
) -> list[str]:
    known = ", ".join(f"{number} {status}" for status, number in standing.items()) or "none"
    kind = "simulated " if restored.manifest.simulated else ""
    begun = "carried on: " if carried_on else ""
    of = f"the {kind}collector of {restored.manifest.created}"
    lines = [
        f"{begun}{settings.data_dir} is {of} again, {age_hours:.1f} h old",
        f"machines: {known}; enrolments and revocations made since are replayed from the register, where it was kept",
    ]
    if restored.replaced is not None:
        lines.append(
            f"what was there is in {restored.replaced}: remove it once you are content, it holds keys and names"
        )
    lines.append(
        "start 'veilleuse serve': each agent sends what is missing here at its next contact, back to "
        f"{RING_HOURS} h; what no agent has any more becomes a declared gap. Nothing to do on the machines."
    )
    return lines
