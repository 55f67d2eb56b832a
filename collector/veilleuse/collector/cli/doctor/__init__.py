# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse doctor`: is everything as it should be, and if not, what to do. Reads only; may run beside `serve`.

To add a check: a generator of Findings in one of the files beside, named `check_<what>`, and its name in BESIDE or INSIDE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import typer

from veilleuse.collector.cli.doctor.authority import check_certificates, check_renewals, check_rotation
from veilleuse.collector.cli.doctor.closed_years import check_closing
from veilleuse.collector.cli.doctor.findings import Check, Finding
from veilleuse.collector.cli.doctor.fleet import (
    check_agents,
    check_balance,
    check_clock,
    check_identities,
    check_versions,
    check_work,
)
from veilleuse.collector.cli.doctor.grid import check_intensity
from veilleuse.collector.cli.doctor.meters import check_meters
from veilleuse.collector.cli.doctor.service import check_service
from veilleuse.collector.cli.doctor.silence import check_silence
from veilleuse.collector.cli.doctor.storage import (
    check_backup,
    check_directory,
    check_disk,
    check_forecast,
    check_leftovers,
    check_retention,
    check_sqlite,
)
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    OTHER_USER,
    ConfigOption,
    JsonOption,
    print_json,
    settings_of,
)
from veilleuse.collector.errors import CollectorError
from veilleuse.collector.settings import CollectorSettings

app = typer.Typer(**APP)

BESIDE: Final[tuple[Check, ...]] = (
    check_directory,
    check_sqlite,
    check_disk,
    check_leftovers,
    check_certificates,
    check_rotation,
    check_service,
)
"""These work whatever the database is like."""
INSIDE: Final[tuple[Check, ...]] = (
    check_forecast,
    check_backup,
    check_work,
    check_retention,
    check_closing,
    check_intensity,
    check_clock,
    check_balance,
    check_versions,
    check_renewals,
    check_identities,
    check_agents,
    check_silence,
    check_meters,
)
"""These read it: only when check_sqlite found nothing against that."""
CHECKS: Final = BESIDE + INSIDE


@app.command()
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the data directory, its backups, the certificates, the running collector, the agents."""
    settings = settings_of(config)
    findings = list(look(settings))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print(f"{finding.outcome:8} {finding.check:14} {finding.text}{remedy}")
    outcomes = {finding.outcome for finding in findings}
    raise typer.Exit(1 if "failed" in outcomes else EXIT_WARNINGS if "warning" in outcomes else 0)


def look(settings: CollectorSettings) -> Iterator[Finding]:
    """Everything that can be looked at."""
    found = list(_checked(check_directory, settings))
    yield from found
    if any(finding.outcome == "failed" for finding in found):
        return
    readable = True
    for check in BESIDE[1:]:
        for finding in _checked(check, settings):
            readable = readable and (finding.check, finding.outcome) != ("sqlite", "failed")
            yield finding
    if readable:
        for check in INSIDE:
            yield from _checked(check, settings)
    else:
        names = ", ".join(map(_name, INSIDE))
        yield Finding(
            "unread", "warning", f"not looked at: {names}", "mend what sqlite says above, then look again"
        )


def _name(check: Check) -> str:
    return getattr(check, "__name__", "").removeprefix("check_")


def _checked(check: Check, settings: CollectorSettings) -> Iterator[Finding]:
    """What a check finds; what stops it is a finding too."""
    name = _name(check)
    try:
        yield from check(settings)
    except CollectorError as error:
        yield Finding(name, "failed", str(error))
    except OSError as error:
        where = f"{error.filename or settings.data_dir}: {error.strerror}"
        remedy = (
            OTHER_USER
            if isinstance(error, PermissionError)
            else "restore it from a backup, or look at the disk"
        )
        yield Finding(name, "failed", where, remedy)
