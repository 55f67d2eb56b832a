# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse doctor`: reports what is wrong and what to do.

It only reads; it may run beside `serve`, and checks it here.

To add a check, write a generator of Findings named `check_<subject>` in one of the files of this folder.
Then add its name to FILE_CHECKS or DATABASE_CHECKS.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import typer

from veilleuse.collector.cli.doctor.authority import check_certificates, check_renewals, check_rotation
from veilleuse.collector.cli.doctor.closed_years import check_closing
from veilleuse.collector.cli.doctor.conditions import check_conditions
from veilleuse.collector.cli.doctor.findings import Check, Finding, outcome_of
from veilleuse.collector.cli.doctor.fleet import (
    check_agents,
    check_balance,
    check_clock,
    check_identities,
    check_silence,
    check_versions,
    check_work,
)
from veilleuse.collector.cli.doctor.grid import check_intensity
from veilleuse.collector.cli.doctor.meters import check_meters
from veilleuse.collector.cli.doctor.settings import check_otlp, check_settings, check_zone
from veilleuse.collector.cli.doctor.storage import (
    check_backup,
    check_directory,
    check_disk,
    check_forecast,
    check_held_months,
    check_leftovers,
    check_retention,
    check_sqlite,
    check_sums,
)
from veilleuse.collector.cli.language import join_sentences, translate
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    OTHER_USER,
    ConfigOption,
    JsonOption,
    load_settings,
    print_json,
)
from veilleuse.collector.errors import AdminError, CollectorError, ConfigurationError
from veilleuse.collector.ipc import START, CollectorNotRunning, ask
from veilleuse.collector.settings import CollectorSettings

app = typer.Typer(**APP)

_READ_THE_LOG: Final = (
    "read the collector's log: 'journalctl -u veilleuse-collector', or what 'veilleuse serve' wrote"
)


def check_service(settings: CollectorSettings) -> Iterator[Finding]:
    """Check that `serve` runs and its ports answer, or that its ports are free."""
    try:
        health: dict[str, Any] | None = ask(settings.data_dir, "health")
    except CollectorNotRunning:
        health = None
        yield Finding("service", "warning", "no collector runs on this data directory", START)
    except AdminError as error:
        yield Finding("service", "failed", str(error), _READ_THE_LOG)
        return
    if health is not None:
        yield Finding("service", "good", f"version {health['version']} runs as pid {health['pid']}")
        errors = {kind: number for kind, number in health["store_errors"].items() if number}
        if errors:
            told = ", ".join(f"{number} {kind}" for kind, number in sorted(errors.items()))
            text = f"the store had errors since the collector started: {told}"
            yield Finding("service", outcome_of("store_errors", sum(errors.values())), text, _READ_THE_LOG)
        if why := health["register"]["trouble"]:
            text = f"the register {health['register']['path']} cannot be written: {why}"
            remedy = (
                "put the file back, or let the service write its folder as docs/operations.md says; "
                "then restart the collector"
            )
            yield Finding("register", outcome_of("register_unwritable", 0), text, remedy)
        if why := health["months_not_published"]:
            text = f"months that are due could not be published: {why}"
            yield Finding("months", "failed", text, f"{_READ_THE_LOG}; it tries again every hour")
    for name, address in (
        ("grpc.address", settings.grpc.address),
        ("grpc.enrolment_address", settings.grpc.enrolment_address),
        ("http.address", settings.http.address),
    ):
        answers = _is_answering(address)
        if answers == (health is not None):
            yield Finding("ports", "good", f"{name} {address} {'answers' if answers else 'is free'}")
        elif answers:
            yield Finding(
                "ports", "failed", f"{name} {address} is in use by another program", f"stop it, or set {name}"
            )
        else:
            yield Finding("ports", "failed", f"{name} {address} does not answer", _READ_THE_LOG)


def _is_answering(address: str) -> bool:
    host, _, port = address.rpartition(":")
    host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


FILE_CHECKS: Final[tuple[Check, ...]] = (
    check_directory,
    check_sqlite,
    check_disk,
    check_leftovers,
    check_certificates,
    check_rotation,
    check_service,
    check_settings,
    check_otlp,
)
"""Checks that need no readable database."""
DATABASE_CHECKS: Final[tuple[Check, ...]] = (
    check_forecast,
    check_backup,
    check_held_months,
    check_work,
    check_retention,
    check_sums,
    check_closing,
    check_zone,
    check_intensity,
    check_clock,
    check_balance,
    check_versions,
    check_renewals,
    check_identities,
    check_agents,
    check_silence,
    check_meters,
    check_conditions,
)
"""Checks that read the database: they run only when check_sqlite did not fail."""
CHECKS: Final = FILE_CHECKS + DATABASE_CHECKS


@app.command()
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the data directory, its backups, the certificates, the running collector and the agents.

    Each finding says what to do. Exit code 1 when a check failed, 3 with warnings.
    """
    settings = load_settings(config)
    findings = list(run_checks(settings))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        width = max(len(translate(finding.outcome)) for finding in findings)
        for finding in findings:
            told = join_sentences(finding.text, finding.remedy)
            print(f"{translate(finding.outcome):{max(8, width)}} {finding.check:14} {told}")
    outcomes = {finding.outcome for finding in findings}
    raise typer.Exit(1 if "failed" in outcomes else EXIT_WARNINGS if "warning" in outcomes else 0)


def run_checks(settings: CollectorSettings) -> Iterator[Finding]:
    """Run all checks that can run, in order. A failed check_directory ends the run."""
    found = list(_run_check(check_directory, settings))
    yield from found
    if any(finding.outcome == "failed" for finding in found):
        return
    readable = True
    for check in FILE_CHECKS[1:]:
        for finding in _run_check(check, settings):
            readable = readable and (finding.check, finding.outcome) != ("sqlite", "failed")
            yield finding
    if readable:
        for check in DATABASE_CHECKS:
            yield from _run_check(check, settings)
    else:
        names = ", ".join(map(_check_name, DATABASE_CHECKS))
        yield Finding(
            "unread",
            "warning",
            f"not checked: {names}",
            "repair what sqlite says above, then run doctor again",
        )


def _check_name(check: Check) -> str:
    return getattr(check, "__name__", "").removeprefix("check_")


def _run_check(check: Check, settings: CollectorSettings) -> Iterator[Finding]:
    """Run one check. An error that stops the check becomes a failed finding."""
    name = _check_name(check)
    try:
        yield from check(settings)
    except (CollectorError, ConfigurationError) as error:
        yield Finding(name, "failed", str(error))
    except OSError as error:
        where = f"{error.filename or settings.data_dir}: {error.strerror}"
        remedy = (
            OTHER_USER
            if isinstance(error, PermissionError)
            else "restore it from a backup, or check the disk"
        )
        yield Finding(name, "failed", where, remedy)
