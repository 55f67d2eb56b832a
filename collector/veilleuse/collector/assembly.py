# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A data directory, made and opened: the parts that `serve` and the commands without it have in common."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from veilleuse.collector.admin.operations import Addresses, Operations
from veilleuse.collector.derive.worker import DeriveWorker
from veilleuse.collector.enrolment import authority as certificate_authority
from veilleuse.collector.enrolment.authorise import Standing, Standings
from veilleuse.collector.enrolment.authority import Authority
from veilleuse.collector.enrolment.forms import write_private
from veilleuse.collector.enrolment.issuing import Office
from veilleuse.collector.errors import DataDirectoryError
from veilleuse.collector.factors.choose import choose
from veilleuse.collector.health import Health
from veilleuse.collector.model import AgentId
from veilleuse.collector.ports import Registry
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite import (
    DirectoryLock,
    SqliteStore,
    create_store,
    make_directory,
    open_store,
)
from veilleuse.collector.store.sqlite.directory import DATA_FILE
from veilleuse.collector.writer import Writer

log = logging.getLogger(__name__)

FLEET_KEY_FILE: Final = "fleet.key"
FLEET_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Collector:
    """An open data directory: this process alone writes in it."""

    settings: CollectorSettings
    simulated: bool
    """Holds simulated data: fake sources are welcome, and every output says so."""
    health: Health
    store: SqliteStore
    """For jobs of the writer only, once it runs."""
    writer: Writer
    office: Office
    derive: DeriveWorker
    addresses: Addresses
    operations: Operations
    damaged: threading.Event
    """Set when the writer found a database damaged: the process should end."""


@dataclass(frozen=True, slots=True)
class Initialised:
    """What `init` made."""

    data_dir: Path
    root_key: Path
    ca_sha256: str
    site: str | None


def product_version() -> str:
    """Version of the installed distribution; 0+source when it runs from a bare source tree."""
    try:
        return version("veilleuse")
    except PackageNotFoundError:
        return "0+source"


def is_initialised(data_dir: Path) -> bool:
    """Whether `init` has ended there once."""
    return (data_dir / DATA_FILE).exists() and (data_dir / certificate_authority.FOLDER).exists()


def initialise(
    settings: CollectorSettings,
    *,
    site: str | None = None,
    zone: str | None = None,
    time_zone: str | None = None,
    simulated: bool = False,
) -> Initialised:
    """Make the data directory: authority, fleet key, both databases, and a first site if named.

    An init that was cut is carried on. Raises DataDirectoryError when it exists already or cannot be written;
    UsageError or UnknownZone for a site that cannot be.
    """
    data_dir = settings.data_dir
    has_data, has_authority = (
        (data_dir / DATA_FILE).exists(),
        (data_dir / certificate_authority.FOLDER).exists(),
    )
    if has_data and has_authority:
        raise DataDirectoryError(
            f"{data_dir} is a data directory already: use --if-missing, or another data_dir"
        )
    if has_data:
        raise DataDirectoryError(
            f"{data_dir} has {DATA_FILE} but no {certificate_authority.FOLDER}: restore it from a backup, or every agent has to enrol again"
        )
    make_directory(data_dir)
    with DirectoryLock(data_dir):
        _make(settings, has_authority=has_authority, simulated=simulated)
    if site is not None:
        with open_collector(settings) as collector:
            collector.operations.site_put(site=site, zone=zone, time_zone=time_zone)
    authority = Authority(data_dir, settings.pki)
    return Initialised(
        data_dir, data_dir / certificate_authority.FOLDER / "root.key", authority.root_sha256, site
    )


@contextmanager
def open_collector(settings: CollectorSettings) -> Iterator[Collector]:
    """Lock the data directory and open all of it; on leaving, what waits is written and everything closed.

    Raises DataDirectoryError (in use, not made yet, unwritable), StoreDamaged, StoreTooNew.
    """
    data_dir = settings.data_dir
    if not is_initialised(data_dir):
        raise DataDirectoryError(
            f"{data_dir} is no data directory: run 'veilleuse init' first, or set data_dir"
        )
    with ExitStack() as cleanup:
        cleanup.enter_context(DirectoryLock(data_dir))
        authority = Authority(data_dir, settings.pki)
        fleet_key = read_fleet_key(data_dir)
        store = open_store(data_dir, settings.store)
        cleanup.callback(store.close)
        standings = Standings(_all_standings(store.registry))
        health, damaged = Health(), threading.Event()
        writer = Writer(
            store, health, queue_pushes=settings.grpc.queue_pushes, on_damage=lambda error: damaged.set()
        )
        simulated = store.registry.data_kind().simulated
        writer.start()
        cleanup.callback(writer.stop)
        office = Office(authority, standings, store.registry, writer)
        derive = DeriveWorker(
            writer,
            store.derive,
            store.registry,
            choose,
            plugged_share_ppm=round(settings.derive.laptop_plugged_share * 1_000_000),
        )
        cleanup.callback(derive.stop)
        addresses = Addresses.from_settings(settings)
        operations = Operations(
            settings, office, store.derive, derive, health, fleet_key, product_version(), addresses
        )
        yield Collector(
            settings, simulated, health, store, writer, office, derive, addresses, operations, damaged
        )


def read_fleet_key(data_dir: Path) -> str:
    """The fleet key, 64 hexadecimal digits. Raises DataDirectoryError."""
    path = data_dir / FLEET_KEY_FILE
    try:
        text = path.read_text(encoding="ascii").strip()
        if len(bytes.fromhex(text)) != FLEET_KEY_BYTES:
            raise ValueError("it is not 32 bytes")
    except (OSError, ValueError) as error:
        raise DataDirectoryError(f"cannot read {path} ({error}): restore it from a backup") from error
    return text


def _make(settings: CollectorSettings, *, has_authority: bool, simulated: bool) -> None:
    data_dir, now = settings.data_dir, time.time()
    try:
        if not (data_dir / FLEET_KEY_FILE).exists():
            write_private(data_dir / FLEET_KEY_FILE, secrets.token_hex(FLEET_KEY_BYTES).encode() + b"\n")
        if not has_authority:
            certificate_authority.create(data_dir, datetime.fromtimestamp(now, UTC))
    except OSError as error:
        raise DataDirectoryError(f"cannot write in {data_dir}: {error.strerror or error}") from error
    create_store(
        data_dir, settings.store, simulated=simulated, now_unix_milliseconds=round(now * 1000)
    ).close()


def _all_standings(registry: Registry) -> Iterator[tuple[AgentId, Standing]]:
    for host in registry.hosts():
        latest = registry.latest_certificate(host.host_id)
        yield (
            host.agent_id,
            Standing(host.host_id, host.population, host.status, latest.generation if latest else 0),
        )
