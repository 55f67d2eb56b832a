# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A data directory, made and opened: the parts that `serve` and the commands without it have in common."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.admin.backup import Backups
from veilleuse.collector.admin.hosts import forget_left
from veilleuse.collector.admin.operations import Operations, new_site
from veilleuse.collector.closed_years.verify import FOLDER as CLOSED_FOLDER
from veilleuse.collector.counters import Health
from veilleuse.collector.derive.worker import DeriveWorker
from veilleuse.collector.enrolment import ca as certificate_authority
from veilleuse.collector.enrolment.authorise import HostAccess, Standings
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.external_ca import ExternalCa
from veilleuse.collector.enrolment.issuing import IssuingContext
from veilleuse.collector.enrolment.register import FILE as REGISTER_FILE
from veilleuse.collector.enrolment.register import Register, register_file
from veilleuse.collector.enrolment.register_replay import open_register, replay
from veilleuse.collector.enrolment.tokens import Addresses
from veilleuse.collector.errors import DataDirectoryError
from veilleuse.collector.factors.book import KnownFactors, choose
from veilleuse.collector.ingest.hello import PopulationConfigs
from veilleuse.collector.ingest.writer import Writer
from veilleuse.collector.ipc.unix_socket import DOOR_FILE, DOOR_INNER_FILE, SOCKET_FILE
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.months.retention import Retention
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.months.worker import RollWorker
from veilleuse.collector.ports import Calendars, Calibrations, HostEraser, MeteringStore, Registry
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite import (
    DirectoryLock,
    SqliteStore,
    create_store,
    make_directory,
    open_store,
)
from veilleuse.collector.store.sqlite.directory import (
    DATA_FILE,
    FLEET_KEY_FILE,
    IDENTITY_FILE,
    LOCK_FILE,
    NO_DATA_DIRECTORY,
    REPLACED_PREFIX,
    RESTORE_UNPACKED,
    put_back,
    require_whole_directory,
)
from veilleuse.wire.files import read_owned, replace_owned
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

log = logging.getLogger(__name__)

FLEET_KEY_BYTES: Final = 32
_OURS: Final = frozenset(
    {
        LOCK_FILE,
        SOCKET_FILE,
        DOOR_FILE,
        DOOR_INNER_FILE,
        certificate_authority.FOLDER,
        certificate_authority.DRAFT,
        RESTORE_UNPACKED,
        CLOSED_FOLDER,
        "lost+found",
    }
)
"""What a data directory may hold before `init`; lost+found when it is a disk of its own."""
_OURS_WITH_ENDINGS: Final = (DATA_FILE, IDENTITY_FILE, FLEET_KEY_FILE, REGISTER_FILE, REPLACED_PREFIX)
"""The same, with SQLite's or our own endings behind."""


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
    office: IssuingContext
    derive: DeriveWorker
    addresses: Addresses
    operations: Operations
    damaged: threading.Event
    """Set when the writer found a database damaged: the process should end."""
    rolls: RollWorker = field(kw_only=True)
    retention: Retention = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class InitResult:
    """What `init` made."""

    data_dir: Path
    root_key: Path | None
    """None when the root is an organisation's own."""
    ca_sha256: str
    site: str | None


def is_initialised(data_dir: Path) -> bool:
    """Whether `init` has ended there once."""
    return all(
        (data_dir / name).exists() for name in (DATA_FILE, IDENTITY_FILE, certificate_authority.FOLDER)
    )


def initialise(
    settings: CollectorSettings,
    *,
    site: str | None = None,
    zone: str | None = None,
    time_zone: str | None = None,
    simulated: bool = False,
    brought: ExternalCa | None = None,
    new_data: bool = False,
) -> InitResult:
    """Make the data directory: fleet key, both databases, a first site if named, and last the authority, or the one brought.

    Until the authority is in place nothing counts: an init that was cut, at whatever moment, is carried on. Raises
    DataDirectoryError when it exists already, holds other files or cannot be written; UsageError or UnknownZone for a
    site that cannot be, before anything is written. `new_data`: where the data are lost and there is no backup, begin
    without any under the authority that is there.
    """
    data_dir = settings.data_dir
    require_whole_directory(data_dir)
    first_site = None if site is None else new_site(settings, site, zone, time_zone, choose)
    _require_unfinished(data_dir, new_data=new_data)
    require_ours(data_dir)
    make_directory(data_dir)
    with DirectoryLock(data_dir):
        _require_unfinished(data_dir, new_data=new_data)  # another init may have been faster
        _make(settings, first_site, brought, simulated=simulated)
    authority = Authority(data_dir, settings.pki)
    return InitResult(data_dir, certificate_authority.root_key_file(data_dir), authority.root_sha256, site)


@contextmanager
def open_collector(settings: CollectorSettings) -> Iterator[Collector]:
    """Lock the data directory and open all of it; on leaving, what waits is written and everything closed.

    Raises DataDirectoryError (in use, not made yet, unwritable), StoreDamaged, StoreTooNew.
    """
    data_dir = settings.data_dir
    require_whole_directory(data_dir)
    _require_initialised(data_dir)
    with ExitStack() as cleanup:
        cleanup.enter_context(DirectoryLock(data_dir))
        require_whole_directory(data_dir)  # a restore may have been faster
        authority = Authority(data_dir, settings.pki)
        fleet_key = read_fleet_key(data_dir)
        store = open_store(data_dir, settings.store)
        cleanup.callback(store.close)
        register = _register(settings, store)
        standings = Standings(_all_standings(store.registry), store.registry.forgotten())
        configuring = PopulationConfigs(store.configurations)
        health, damaged, dirty = Health(), threading.Event(), threading.Event()
        writer = _started(settings, store, health, damaged, dirty)
        cleanup.callback(writer.stop)
        office = IssuingContext(authority, standings, store.registry, writer, register)
        known_factors = KnownFactors(store.factors.versions)
        derive = _derive_worker(settings, store, writer, dirty, known_factors)
        cleanup.callback(derive.stop)
        rolls = RollWorker(writer, store.rolls, store.derive, store.registry, _almanac(store))
        cleanup.callback(rolls.stop)
        operations = Operations(
            settings,
            office,
            store.derive,
            derive,
            health,
            fleet_key,
            product_version(),
            Addresses.from_settings(settings),
            Backups(data_dir, settings.store, store, writer),
            configuring,
            *_parts(store),
            store.factors,
            known_factors,
            store.inventory,
            rolls=rolls,
            **_kept(store),
        )
        parts = (settings, store.kind.simulated, health, store, writer, office, derive)
        kept = _retention(settings, store, writer)
        yield Collector(*parts, operations.addresses, operations, damaged, rolls=rolls, retention=kept)


def _kept(store: SqliteStore) -> dict[str, Any]:
    """What operations add rows to, by the name of their argument."""
    return {
        "follows": store.follows,
        "accounts": store.accounts,
        "closings": store.closings,
        "intensities": store.intensities,
        "publications": store.publications,
    }


def _started(
    settings: CollectorSettings,
    store: SqliteStore,
    health: Health,
    damaged: threading.Event,
    dirty: threading.Event,
) -> Writer:
    """The writer, from now on the only one that uses the store."""
    writer = Writer(
        store,
        health,
        queue_pushes=settings.grpc.admitted_pushes,
        on_damage=lambda error: damaged.set(),
        on_stored=dirty.set,
    )
    writer.start()
    return writer


def _parts(store: SqliteStore) -> tuple[HostEraser, Calibrations, MeteringStore, Calendars]:
    """Of the store, as Operations takes them; for jobs of the writer."""
    return store.forgetting, store.calibrations, store.metering, store.calendars


def _almanac(store: SqliteStore) -> SiteCalendars:
    """On the writer's connection."""
    return SiteCalendars(store.calendars.versions, store.calendars.school_periods)


def _retention(settings: CollectorSettings, store: SqliteStore, writer: Writer) -> Retention:
    return Retention(
        writer,
        store.rolls,
        store.registry,
        _almanac(store),
        settings.retention,
        closed_years=store.closings.definitive_years,
        may_go=store.closings.may_go,
    )


def _derive_worker(
    settings: CollectorSettings,
    store: SqliteStore,
    writer: Writer,
    dirty: threading.Event,
    known_factors: KnownFactors,
) -> DeriveWorker:
    return DeriveWorker(
        writer,
        store.derive,
        store.registry,
        known_factors.choose,
        plugged_share_ppm=round(settings.derive.laptop_plugged_share * 1_000_000),
        dirty=dirty,
        metering=store.metering,
        calibrations=store.calibrations,
    )


def read_fleet_key(data_dir: Path) -> str:
    """The fleet key, 64 hexadecimal digits. Raises DataDirectoryError."""
    path = data_dir / FLEET_KEY_FILE
    try:
        text = read_owned(path, 4096).decode("ascii").strip()
        if len(bytes.fromhex(text)) != FLEET_KEY_BYTES:
            raise ValueError("it is not 32 bytes")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataDirectoryError(f"cannot read {path} ({why}): restore it from a backup") from error
    return text


def _require_initialised(data_dir: Path) -> None:
    if not is_initialised(data_dir):
        what, remedy = what_is_missing(data_dir)
        raise DataDirectoryError(f"{what}: {remedy}")


def what_is_missing(data_dir: Path) -> tuple[str, str]:
    """Of a directory where `init` has not ended, or that lost a part since: what it is, and the remedy."""
    has_data, has_ca = (data_dir / DATA_FILE).exists(), (data_dir / certificate_authority.FOLDER).exists()
    lost = [name for name in (DATA_FILE, IDENTITY_FILE) if not (data_dir / name).exists()]
    if has_ca and lost:
        nothing = "no data" if DATA_FILE in lost else "no name of a machine, and no access journal"
        return (
            f"{data_dir} has lost {' and '.join(lost)}",
            f"{put_back(*(data_dir / name for name in lost))}; where there is none, 'veilleuse init --new-data' begins with {nothing}",
        )
    if has_data and not has_ca and not (data_dir / certificate_authority.DRAFT).exists():
        return (
            f"{data_dir} has {DATA_FILE} but no {certificate_authority.FOLDER}",
            "restore a backup with 'veilleuse restore FILE', or every agent has to enrol again",
        )
    return f"{data_dir} is no data directory", NO_DATA_DIRECTORY


def _require_unfinished(data_dir: Path, *, new_data: bool) -> None:
    """Raises DataDirectoryError when an init ended here once: a second authority would disown every agent."""
    if is_initialised(data_dir):
        raise DataDirectoryError(
            f"{data_dir} is a data directory already: use --if-missing, or another data_dir"
        )
    has_data, has_ca = (data_dir / DATA_FILE).exists(), (data_dir / certificate_authority.FOLDER).exists()
    draft = (data_dir / certificate_authority.DRAFT).exists()
    if (has_ca and not new_data) or (has_data and not has_ca and not draft):
        raise DataDirectoryError(": ".join(what_is_missing(data_dir)))
    if new_data and not has_ca:
        raise DataDirectoryError(
            f"{data_dir} has no {certificate_authority.FOLDER} to go on with: leave out --new-data"
        )


def require_ours(data_dir: Path) -> None:
    """Raises DataDirectoryError when it is somebody else's: its mode would become 0700, and `purge` would take all."""
    try:
        names = [path.name for path in data_dir.iterdir()]
    except OSError:
        return  # not there yet; whatever else is wrong, making it will say
    foreign = sorted(name for name in names if name not in _OURS and not name.startswith(_OURS_WITH_ENDINGS))
    if foreign:
        raise DataDirectoryError(
            f"{data_dir} holds other files ({', '.join(foreign[:3])}): set data_dir to an empty or a new directory"
        )


def _make(
    settings: CollectorSettings, site: Site | None, brought: ExternalCa | None, *, simulated: bool
) -> None:
    data_dir, now = settings.data_dir, time.time()
    has_authority = (data_dir / certificate_authority.FOLDER).exists()
    try:
        if not (data_dir / FLEET_KEY_FILE).exists():
            replace_owned(data_dir / FLEET_KEY_FILE, secrets.token_hex(FLEET_KEY_BYTES).encode() + b"\n")
    except OSError as error:
        raise DataDirectoryError(f"cannot write in {data_dir}: {error.strerror or error}") from error
    if not has_authority:
        certificate_authority.draft(data_dir, datetime.fromtimestamp(now, UTC), brought)
    with closing(
        create_store(
            data_dir,
            settings.store,
            simulated=simulated,
            now_unix_milliseconds=round(now * MILLISECONDS_PER_SECOND),
        )
    ) as store:
        if site is not None and site.site not in {known.site for known in store.registry.sites()}:
            store.registry.put_site(site)
    if not has_authority:
        certificate_authority.adopt(data_dir)


def _register(settings: CollectorSettings, store: SqliteStore) -> Register:
    """The register, after what it knows of newer events was brought in, and who was forgotten taken out again."""
    path = register_file(settings.data_dir, settings.pki.register_file)
    replay(path, store.registry, store.transaction)
    forget_left(store.registry, store.forgetting)
    return open_register(path, store.registry)


def _all_standings(registry: Registry) -> Iterator[tuple[AgentId, HostAccess]]:
    for host in registry.hosts():
        latest = registry.latest_certificate(host.host_id)
        yield (
            host.agent_id,
            HostAccess(
                host.host_id,
                host.population,
                host.status,
                latest.generation if latest else 0,
                host.used_generation,
            ),
        )
