# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Creates and opens a data directory, for `serve` and for the commands that work without it."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.admin.context import AdminContext, ProcessFacts
from veilleuse.collector.admin.hosts import complete_forgetting
from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.admin.sites import new_site
from veilleuse.collector.backup.copies import Backups
from veilleuse.collector.backup.publication_register import PublicationRegister, open_publication_register
from veilleuse.collector.closed_years.verify import FOLDER as CLOSED_FOLDER
from veilleuse.collector.derive.worker import DeriveWorker
from veilleuse.collector.enrolment import ca as certificate_authority
from veilleuse.collector.enrolment.authorise import AccessTable, HostAccess
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.external_ca import ExternalCa
from veilleuse.collector.enrolment.issuing import IssuingContext
from veilleuse.collector.enrolment.register import FILE as REGISTER_FILE
from veilleuse.collector.enrolment.register import Register, register_file
from veilleuse.collector.enrolment.register_replay import ReplayResult, open_register, replay
from veilleuse.collector.enrolment.root_key import FOLDER as CA_FOLDER
from veilleuse.collector.enrolment.tokens import Addresses
from veilleuse.collector.errors import DataDirectoryError
from veilleuse.collector.factors.book import KnownFactors, choose
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ingest.hello import PopulationConfigs
from veilleuse.collector.ingest.own_use import OwnUse
from veilleuse.collector.ingest.writer import Writer
from veilleuse.collector.ipc import GATEWAY_FILE, GATEWAY_INNER_FILE, SOCKET_FILE
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.months.retention import Retention
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.months.worker import MonthWorker
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import CollectorStore, create_store, open_store
from veilleuse.collector.store.directory import (
    DATA_FILE,
    FLEET_KEY_FILE,
    IDENTITY_FILE,
    LOCK_FILE,
    NO_DATA_DIRECTORY,
    REPLACED_PREFIX,
    RESTORE_UNPACKED,
    DirectoryLock,
    make_directory,
    name_remedy,
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
        GATEWAY_FILE,
        GATEWAY_INNER_FILE,
        CA_FOLDER,
        certificate_authority.DRAFT,
        RESTORE_UNPACKED,
        CLOSED_FOLDER,
        "lost+found",
    }
)
"""Names that a data directory may contain before `init`; lost+found when it is its own disk."""
_OURS_WITH_ENDINGS: Final = (DATA_FILE, IDENTITY_FILE, FLEET_KEY_FILE, REGISTER_FILE, REPLACED_PREFIX)
"""Further names, to which SQLite or this program may append an ending."""


@dataclass(frozen=True, slots=True)
class Collector:
    """An open data directory, in which only this process writes."""

    settings: CollectorSettings
    simulated: bool
    """True for simulated data: fake sources are accepted, and every output says so."""
    health: Health
    store: CollectorStore
    """Used only in jobs of the writer, once the writer runs."""
    writer: Writer
    issuing: IssuingContext
    derive: DeriveWorker
    addresses: Addresses
    operations: Operations
    damaged: threading.Event
    """Set when the writer found a database damaged: the process should end."""
    rolls: MonthWorker = field(kw_only=True)
    retention: Retention = field(kw_only=True)
    start: StartResult = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class StartResult:
    """What the opening of a data directory read back from the files outside the backups."""

    register: ReplayResult
    publications: PublicationRegister


@dataclass(frozen=True, slots=True)
class InitResult:
    """Result of `init`."""

    data_dir: Path
    root_key: Path | None
    """None when the root belongs to an organisation."""
    ca_sha256: str
    site: str | None


def is_initialised(data_dir: Path) -> bool:
    """Return True when `init` has been completed there."""
    return all((data_dir / name).exists() for name in (DATA_FILE, IDENTITY_FILE, CA_FOLDER))


def initialise(
    settings: CollectorSettings,
    *,
    site: str | None = None,
    zone: str | None = None,
    time_zone: str | None = None,
    simulated: bool = False,
    external: ExternalCa | None = None,
    new_data: bool = False,
) -> InitResult:
    """Create the data directory: fleet key, both databases, a first site if named, and the authority last.

    `external` is an external authority to use. Nothing counts before the authority is in place: an
    interrupted init is continued. Raises DataDirectoryError when it exists already, holds other files or
    cannot be written. Raises UsageError or UnknownZone for an invalid site, before anything is written.
    `new_data` starts without data under the present authority, when the data are lost and there is no backup.
    """
    data_dir = settings.data_dir
    require_whole_directory(data_dir)
    first_site = None if site is None else new_site(settings, site, zone, time_zone, choose)
    _require_unfinished(data_dir, new_data=new_data)
    require_ours(data_dir)
    make_directory(data_dir)
    with DirectoryLock(data_dir):
        _require_unfinished(data_dir, new_data=new_data)  # another init may have been faster
        _create(settings, first_site, external, simulated=simulated)
    authority = Authority(data_dir, settings.pki)
    return InitResult(data_dir, certificate_authority.root_key_file(data_dir), authority.root_sha256, site)


@contextmanager
def open_collector(settings: CollectorSettings) -> Iterator[Collector]:
    """Lock and open the data directory; on exit, write waiting work and close everything.

    Raises DataDirectoryError (in use, not created yet, unwritable), StoreDamaged, StoreTooNew.
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
        register, replayed = _register(settings, store)
        path = register_file(data_dir, settings.pki.register_file)
        with store.transaction():
            published = open_publication_register(path, store.registry, store.publications)
        access_table = AccessTable(_read_access(store.registry), store.registry.forgotten())
        configuring = PopulationConfigs(store.configurations)
        health, damaged, dirty = Health(), threading.Event(), threading.Event()
        writer = _start_writer(settings, store, health, damaged, dirty)
        cleanup.callback(writer.stop)
        issuing = IssuingContext(authority, access_table, store.registry, writer, register)
        known_factors = KnownFactors(store.factors.versions)
        derive = _derive_worker(settings, store, writer, dirty, known_factors)
        cleanup.callback(derive.stop)
        rolls = MonthWorker(writer, store.rolls, store.derive, store.registry, _site_calendars(store))
        cleanup.callback(rolls.stop)
        addresses = Addresses.from_settings(settings)
        context = AdminContext(
            settings,
            ProcessFacts(product_version(), addresses, health, OwnUse(health)),
            issuing,
            store,
            known_factors,
            configuring,
            derive,
            rolls,
            Backups(data_dir, settings.store, store, writer),
            published,
            fleet_key,
        )
        parts = (settings, store.kind.simulated, health, store, writer, issuing, derive, addresses)
        kept = _retention(settings, store, writer)
        known = StartResult(replayed, published)
        yield Collector(*parts, Operations(context), damaged, rolls=rolls, retention=kept, start=known)


def _start_writer(
    settings: CollectorSettings,
    store: CollectorStore,
    health: Health,
    damaged: threading.Event,
    dirty: threading.Event,
) -> Writer:
    """Start the writer, from now on the only user of the store."""
    writer = Writer(
        store,
        health,
        queue_pushes=settings.grpc.admitted_pushes,
        on_damage=lambda error: damaged.set(),
        on_stored=dirty.set,
    )
    writer.start()
    return writer


def _site_calendars(store: CollectorStore) -> SiteCalendars:
    """On the writer's connection."""
    return SiteCalendars(store.calendars.versions, store.calendars.school_periods)


def _retention(settings: CollectorSettings, store: CollectorStore, writer: Writer) -> Retention:
    return Retention(
        writer,
        store.rolls,
        store.registry,
        _site_calendars(store),
        settings.retention,
        closed_years=store.closings.definitive_years,
        may_go=store.closings.may_go,
    )


def _derive_worker(
    settings: CollectorSettings,
    store: CollectorStore,
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
    """Return the fleet key, 64 hexadecimal digits. Raises DataDirectoryError."""
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
    """Describe the fault and the remedy of a directory without completed `init`, or with a lost part."""
    has_data, has_ca = (data_dir / DATA_FILE).exists(), (data_dir / CA_FOLDER).exists()
    lost = [name for name in (DATA_FILE, IDENTITY_FILE) if not (data_dir / name).exists()]
    if has_ca and lost:
        nothing = "no data" if DATA_FILE in lost else "no name of a machine, and no access journal"
        return (
            f"{data_dir} has lost {' and '.join(lost)}",
            (
                f"{name_remedy(*(data_dir / name for name in lost))}; where there is none, 'veilleuse init "
                f"--new-data' begins with {nothing}"
            ),
        )
    if has_data and not has_ca and not (data_dir / certificate_authority.DRAFT).exists():
        return (
            f"{data_dir} has {DATA_FILE} but no {CA_FOLDER}",
            "restore a backup with 'veilleuse restore FILE', or every agent has to enrol again",
        )
    return f"{data_dir} is no data directory", NO_DATA_DIRECTORY


def _require_unfinished(data_dir: Path, *, new_data: bool) -> None:
    """Raise DataDirectoryError when an init was completed here.

    A second authority would disown every agent.
    """
    if is_initialised(data_dir):
        raise DataDirectoryError(
            f"{data_dir} is a data directory already: use --if-missing, or another data_dir"
        )
    has_data, has_ca = (data_dir / DATA_FILE).exists(), (data_dir / CA_FOLDER).exists()
    draft = (data_dir / certificate_authority.DRAFT).exists()
    if (has_ca and not new_data) or (has_data and not has_ca and not draft):
        raise DataDirectoryError(": ".join(what_is_missing(data_dir)))
    if new_data and not has_ca:
        raise DataDirectoryError(f"{data_dir} has no {CA_FOLDER} to continue with: leave out --new-data")


def require_ours(data_dir: Path) -> None:
    """Raise DataDirectoryError for a directory with other files.

    Its mode would become 0700, and `purge` would delete all.
    """
    try:
        names = [path.name for path in data_dir.iterdir()]
    except OSError:
        return  # absent; other faults appear when it is created
    foreign = sorted(name for name in names if name not in _OURS and not name.startswith(_OURS_WITH_ENDINGS))
    if foreign:
        raise DataDirectoryError(
            f"{data_dir} holds other files ({', '.join(foreign[:3])}): set data_dir to an empty or a new "
            "directory"
        )


def _create(
    settings: CollectorSettings, site: Site | None, external: ExternalCa | None, *, simulated: bool
) -> None:
    data_dir, now = settings.data_dir, clock.unix_seconds()
    has_authority = (data_dir / CA_FOLDER).exists()
    try:
        if not (data_dir / FLEET_KEY_FILE).exists():
            replace_owned(data_dir / FLEET_KEY_FILE, secrets.token_hex(FLEET_KEY_BYTES).encode() + b"\n")
    except OSError as error:
        raise DataDirectoryError(f"cannot write in {data_dir}: {error.strerror or error}") from error
    if not has_authority:
        certificate_authority.draft(data_dir, datetime.fromtimestamp(now, UTC), external)
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


def _register(settings: CollectorSettings, store: CollectorStore) -> tuple[Register, ReplayResult]:
    """Open the register, after its newer events were applied and forgotten machines were removed again."""
    path = register_file(settings.data_dir, settings.pki.register_file)
    replayed = replay(path, store.registry, store.transaction)
    complete_forgetting(store.registry, store.forgetting)
    return open_register(path, store.registry), replayed


def _read_access(registry: Registry) -> Iterator[tuple[AgentId, HostAccess]]:
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
