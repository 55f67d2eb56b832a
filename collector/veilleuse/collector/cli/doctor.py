# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse doctor`: is everything as it should be, and if not, what to do. Reads only; may run beside `serve`."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import typer
from cryptography import x509

from veilleuse.collector.admin_client import CollectorNotRunning, ask
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    print_json,
    settings_of,
)
from veilleuse.collector.enrolment.authority import FOLDER, SERVER_RENEWAL
from veilleuse.collector.errors import AdminError, CollectorError
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite import SqliteReader
from veilleuse.collector.store.sqlite.connection import MINIMUM_SQLITE, WAL_RESET_FIXED, Database, quick_check
from veilleuse.collector.store.sqlite.directory import DATA_FILE, IDENTITY_FILE

app = typer.Typer(**APP)

BACKLOG_PERIODS: Final = 10_000
"""Periods waiting to be derived that are worth a word: some minutes of work."""
_CERTIFICATES: Final = (
    ("root", "root.pem", timedelta(days=365), "plan a rotation of the authority"),
    (
        "intermediate",
        "intermediate.pem",
        timedelta(days=180),
        "plan a new intermediate, signed with the off-line root key",
    ),
    (
        "server",
        "server.pem",
        SERVER_RENEWAL - timedelta(days=1),
        "restart 'veilleuse serve': it makes a new one",
    ),
)
Outcome = Literal["good", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    check: str
    outcome: Outcome
    text: str
    remedy: str = ""


@app.command()
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the data directory, the databases, the certificates, the ports and the running collector."""
    settings = settings_of(config)
    checks = CHECKS if (settings.data_dir / DATA_FILE).exists() else (check_directory,)
    findings = [finding for check in checks for finding in _checked(check, settings)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print(f"{finding.outcome:8} {finding.check:14} {finding.text}{remedy}")
    outcomes = {finding.outcome for finding in findings}
    raise typer.Exit(1 if "failed" in outcomes else EXIT_WARNINGS if "warning" in outcomes else 0)


def _checked(
    check: Callable[[CollectorSettings], Iterator[Finding]], settings: CollectorSettings
) -> Iterator[Finding]:
    """What a check finds; what stops it is a finding too."""
    name = check.__name__.removeprefix("check_")
    try:
        yield from check(settings)
    except CollectorError as error:
        yield Finding(name, "failed", str(error))
    except OSError as error:
        yield Finding(
            name, "failed", f"{error.filename or settings.data_dir}: {error.strerror}", "look at its rights"
        )


def check_directory(settings: CollectorSettings) -> Iterator[Finding]:
    """The data directory and everything in it belongs to its owner alone."""
    data_dir = settings.data_dir
    if not (data_dir / DATA_FILE).exists():
        yield Finding(
            "directory", "failed", f"{data_dir} is no data directory", "run 'veilleuse init', or set data_dir"
        )
        return
    open_to_others = [path for path in (data_dir, *data_dir.rglob("*")) if _is_open(path)]
    if open_to_others:
        names = ", ".join(str(path) for path in open_to_others[:3])
        yield Finding(
            "directory", "warning", f"{names} can be read by others", f"run 'chmod -R go= {data_dir}'"
        )
    else:
        yield Finding("directory", "good", str(data_dir))


def _is_open(path: Path) -> bool:
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))


def check_sqlite(settings: CollectorSettings) -> Iterator[Finding]:
    """The library's version, and both files whole."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        yield Finding(
            "sqlite", "failed", f"SQLite {version} is too old", "update libsqlite3 to 3.37 or newer"
        )
    elif sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        text = f"SQLite {version} has the WAL-reset race, fixed in 3.51.3"
        yield Finding("sqlite", "good", f"{text}: harmless while only the collector writes to its files")
    else:
        yield Finding("sqlite", "good", f"SQLite {version}")
    for name in (DATA_FILE, IDENTITY_FILE):
        path = settings.data_dir / name
        if not path.exists():
            continue
        database = Database(path, writing=False)
        try:
            found = quick_check(database)
        finally:
            database.close()
        if found:
            yield Finding(
                "sqlite",
                "failed",
                f"{path} is damaged: {found[0]}",
                "stop 'veilleuse serve' and restore a backup",
            )
        else:
            yield Finding("sqlite", "good", f"{name} is whole, {path.stat().st_size / 2**20:.1f} MiB")


def check_disk(settings: CollectorSettings) -> Iterator[Finding]:
    """Free space against the reserve under which no record is accepted."""
    usage = shutil.disk_usage(settings.data_dir)
    reserve = min(settings.store.free_bytes_minimum, int(settings.store.free_ratio_minimum * usage.total))
    text = f"{usage.free / 2**20:.0f} MiB free, reserve {reserve / 2**20:.0f} MiB"
    if usage.free < reserve:
        yield Finding(
            "disk",
            "failed",
            f"{text}: no record is accepted",
            "free some space; the agents keep their records",
        )
    elif usage.free < 2 * reserve:
        yield Finding("disk", "warning", text, "free some space soon")
    else:
        yield Finding("disk", "good", text)


def check_certificates(settings: CollectorSettings) -> Iterator[Finding]:
    """When the authority's and the collector's own certificates end, and whether the root key is still here."""
    folder, now = settings.data_dir / FOLDER, datetime.now(UTC)
    for name, file, margin, remedy in _CERTIFICATES:
        if name == "server" and not (folder / file).exists():
            continue  # made at the first start
        try:
            end = x509.load_pem_x509_certificate((folder / file).read_bytes()).not_valid_after_utc
        except ValueError:
            yield Finding("certificates", "failed", f"{folder / file} is damaged", "restore it from a backup")
            continue
        text = f"{name} ends on {end:%Y-%m-%d}"
        if end <= now:
            yield Finding("certificates", "failed", text, remedy)
        else:
            near = end - now < margin
            yield Finding("certificates", "warning" if near else "good", text, remedy if near else "")
    if (folder / "root.key").exists():
        remedy = "move it off-line: the collector never needs it"
        yield Finding("certificates", "good", f"the root key is still in {folder / 'root.key'}", remedy)


def check_service(settings: CollectorSettings) -> Iterator[Finding]:
    """Whether `serve` runs, and whether its ports answer or are free."""
    try:
        health: dict[str, Any] | None = ask(settings.data_dir, "health")
    except CollectorNotRunning:
        health = None
        yield Finding(
            "service", "warning", "no collector runs on this data directory", "start 'veilleuse serve'"
        )
    except AdminError as error:
        yield Finding("service", "failed", str(error), "look at the log of 'veilleuse serve'")
        return
    if health is not None:
        yield Finding("service", "good", f"version {health['version']} runs as pid {health['pid']}")
        errors = {kind: number for kind, number in health["store_errors"].items() if number}
        if errors:
            yield Finding(
                "service", "warning", f"the store has failed since it started: {errors}", "look at its log"
            )
    for name, address in (
        ("grpc.address", settings.grpc.address),
        ("grpc.enrolment_address", settings.grpc.enrolment_address),
        ("http.address", settings.http.address),
    ):
        answers = _answers(address)
        if answers == (health is not None):
            yield Finding("ports", "good", f"{name} {address} {'answers' if answers else 'is free'}")
        elif answers:
            yield Finding(
                "ports", "failed", f"{name} {address} is in use by another program", f"stop it, or set {name}"
            )
        else:
            yield Finding(
                "ports", "failed", f"{name} {address} does not answer", "look at the log of 'veilleuse serve'"
            )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    host = {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def check_work(settings: CollectorSettings) -> Iterator[Finding]:
    """How much waits to be derived, and who is enrolled."""
    reader = SqliteReader(settings.data_dir)
    try:
        hosts, records, dirty = reader.hosts(), reader.record_count(), reader.dirty_count()
        simulated = reader.data_kind().simulated
    finally:
        reader.close()
    kind = ", simulated" if simulated else ""
    yield Finding("work", "good", f"{len(hosts)} host(s), {records} record(s){kind}")
    if dirty > BACKLOG_PERIODS:
        yield Finding(
            "work",
            "warning",
            f"{dirty} periods wait to be derived",
            "let 'veilleuse serve' run; it catches up",
        )
    else:
        yield Finding("work", "good", f"{dirty} period(s) wait to be derived")


CHECKS: Final = (check_directory, check_sqlite, check_disk, check_certificates, check_service, check_work)
