# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What an administrator may ask of an open data directory."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from veilleuse.collector.admin import (
    accounts,
    actions,
    backup,
    ca,
    calibration,
    closed_years,
    factors,
    grid,
    hosts,
    inventory,
    meters,
    remote_config,
)
from veilleuse.collector.admin import calendars as calendar
from veilleuse.collector.admin import publications as published
from veilleuse.collector.admin.uploads import Uploads
from veilleuse.collector.calendars.compose import default_calendar
from veilleuse.collector.counters import Health
from veilleuse.collector.derive.worker import DeriveWorker
from veilleuse.collector.enrolment.issuing import IssuingContext, unix_milliseconds
from veilleuse.collector.enrolment.register import (
    ADMITTED,
    EXCLUDED,
    SITE,
    TOKEN,
    TOKEN_REVOKED,
    RegisterEntry,
)
from veilleuse.collector.enrolment.register_replay import site_facts, token_facts
from veilleuse.collector.enrolment.tokens import Addresses, TokenOrder, checked_name, new_token, token_sha256
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.factors.book import KnownFactors
from veilleuse.collector.ingest.hello import PopulationConfigs
from veilleuse.collector.ipc.unix_socket import one_host
from veilleuse.collector.model.hosts import Host, HostStatus, Site
from veilleuse.collector.months.worker import RollWorker, ended_by
from veilleuse.collector.ports import (
    Accounts,
    Calendars,
    Calibrations,
    ChosenFactor,
    DeriveStore,
    Factors,
    Follows,
    HostEraser,
    Intensities,
    InventoryStore,
    MeteringStore,
)
from veilleuse.collector.ports.readers import ClosedYears, Publications
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.address import WILDCARDS, split_address
from veilleuse.wire.bands import CalendarError
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

T = TypeVar("T")

JOIN_FILE_VERSION: Final = 1
FLUSH_SECONDS: Final = 60.0
ALONE_SECONDS: Final = 60.0
_ALLOWED_FROM: Final = {
    HostStatus.ACTIVE: {HostStatus.PENDING, HostStatus.SUSPENDED, HostStatus.ACTIVE},
    HostStatus.SUSPENDED: {HostStatus.PENDING, HostStatus.ACTIVE, HostStatus.SUSPENDED},
    HostStatus.REVOKED: {HostStatus.PENDING, HostStatus.ACTIVE, HostStatus.SUSPENDED, HostStatus.REVOKED},
}
"""Revoked is for ever: its holder may be a thief. The machine enrols again under a new identity."""


@dataclass(frozen=True, slots=True)
class Operations:
    """What an administrator may ask of an open data directory. Safe to share between threads."""

    settings: CollectorSettings
    office: IssuingContext
    derive_store: DeriveStore
    """Used inside jobs of the writer only."""
    derive: DeriveWorker
    health: Health
    fleet_key: str = field(repr=False)
    """64 hexadecimal digits: keys the asset pseudonyms of this fleet."""
    version: str
    addresses: Addresses
    backups: backup.Backups
    configuring: PopulationConfigs
    forgetting: HostEraser
    """Used inside jobs of the writer only."""
    calibrations: Calibrations
    """Used inside jobs of the writer only."""
    metering: MeteringStore
    """Used inside jobs of the writer only."""
    calendars: Calendars
    """Used inside jobs of the writer only."""
    factors: Factors
    """Used inside jobs of the writer only."""
    known_factors: KnownFactors
    """Used inside jobs of the writer only."""
    inventory: InventoryStore
    """Used inside jobs of the writer outside transactions only: `alone`."""
    uploads: Uploads = field(default_factory=Uploads)
    publishing: Uploads = field(default_factory=published.new_uploads)
    rolls: RollWorker = field(kw_only=True)
    follows: Follows = field(kw_only=True)
    accounts: Accounts = field(kw_only=True)
    """Used inside jobs of the writer only."""
    closings: ClosedYears = field(kw_only=True)
    """Used inside jobs of the writer only."""
    intensities: Intensities = field(kw_only=True)
    """Used inside jobs of the writer only."""
    publications: Publications = field(kw_only=True)
    """Used inside jobs of the writer only."""
    started_unix_milliseconds: int = field(
        default_factory=lambda: round(time.time() * MILLISECONDS_PER_SECOND)
    )

    def perform(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """The result, ready for JSON. Raises UsageError for what cannot be asked, else what the operation raises."""
        method = OPERATIONS.get(operation)
        if method is None:
            raise UsageError(f"unknown operation {operation!r}: use one of {', '.join(OPERATIONS)}")
        try:
            return method(self, **arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"wrong arguments for {operation}: {error}") from error

    # --- the process

    def ping(self) -> dict[str, Any]:
        """Who answers."""
        return {
            "pid": os.getpid(),
            "version": self.version,
            "started_unix_milliseconds": self.started_unix_milliseconds,
            "listening_unix_milliseconds": self.health.listening_since(self.started_unix_milliseconds),
            "address": self.addresses.telemetry,
            "enrolment_address": self.addresses.enrolment,
        }

    def read_health(self) -> dict[str, Any]:
        """Health.snapshot(), plus who answers and `certificates`: name (root, intermediate, server) → Unix ms of its end."""
        authority = self.office.authority
        ends = {
            "root": authority.root.not_valid_after_utc,
            "intermediate": authority.intermediate.not_valid_after_utc,
            "server": authority.server_identity().not_after,
        }
        expiry = {name: unix_milliseconds(end) for name, end in ends.items()}
        return {**self.ping(), **self.health.snapshot(), "certificates": expiry}

    # --- tokens

    def token_create(
        self,
        *,
        org_entity: str,
        site: str,
        population: str,
        uses: int = 1,
        hours: float = 24,
        networks: tuple[str, ...] | list[str] = (),
        approve: bool = False,
        admit_copies: bool = False,
        zone: str | None = None,
        time_zone: str | None = None,
    ) -> dict[str, Any]:
        """A token and the content of its join file. A site nobody declared is made, with the default timetable."""
        org_entity, site = checked_name("entity", org_entity), checked_name("site", site)
        order = TokenOrder(
            org_entity, site, Population(population), uses, hours, tuple(networks), approve, admit_copies
        )
        join = self._join_file()
        token = new_token()
        now = self.office.now_unix_milliseconds()

        def job(note: RegisterEntry) -> int:
            self._ensure_site(site, zone, time_zone, note)
            token_id = self.office.registry.insert_token(
                token_sha256=token_sha256(token),
                created_unix_milliseconds=now,
                expires_unix_milliseconds=order.expires_unix_milliseconds(now),
                max_uses=order.uses,
                networks=order.networks,
                org_entity=order.org_entity,
                site=order.site,
                population=order.population,
                approve=order.approve,
                admit_copies=order.admit_copies,
            )
            made = self.office.registry.token_by_hash(token_sha256(token))
            if made is not None:
                note(TOKEN, **token_facts(made))
            return token_id

        token_id = self.office.commit_noted(job)
        log.info("token created", extra={"token_id": token_id, "org_entity": org_entity, "site": site})
        return {
            "token_id": token_id,
            "expires_unix_milliseconds": order.expires_unix_milliseconds(now),
            "join": {**join, "token": token, "fleet_key": self.fleet_key},
        }

    def token_list(self) -> list[dict[str, Any]]:
        """All tokens, oldest first; never their text."""
        registry, now = self.office.registry, self.office.now_unix_milliseconds()
        return [
            {
                "token_id": token.token_id,
                "org_entity": token.org_entity,
                "site": token.site,
                "population": token.population.value,
                "uses": token.uses,
                "max_uses": token.max_uses,
                "networks": list(token.networks),
                "approve": token.approve,
                "admit_copies": token.admit_copies,
                "revoked": token.revoked,
                "expired": now >= token.expires_unix_milliseconds,
                "created_unix_milliseconds": token.created_unix_milliseconds,
                "expires_unix_milliseconds": token.expires_unix_milliseconds,
            }
            for token in self.office.commit(registry.tokens)
        ]

    def token_revoke(self, *, token_id: int, keep_hosts: bool = False) -> dict[str, Any]:
        """End a token at once and, unless `keep_hosts`, every machine that enrolled with it."""
        registry = self.office.registry

        def job(note: RegisterEntry) -> list[Host]:
            if not registry.revoke_token(token_id):
                raise AdminError(f"no token {token_id}: see 'veilleuse token list'")
            note(TOKEN_REVOKED, sha256=self._token_sha256(token_id).hex())
            hosts = (
                []
                if keep_hosts
                else [registry.host(host_id) for host_id in registry.hosts_of_token(token_id)]
            )
            ended = [
                host
                for host in hosts
                if host is not None and host.status in _ALLOWED_FROM[HostStatus.REVOKED]
            ]
            self.set_status(ended, HostStatus.REVOKED, note)
            return ended

        ended = self.office.commit_noted(job)
        log.info("token revoked", extra={"token_id": token_id, "hosts": len(ended)})
        return {"token_id": token_id, "hosts_revoked": len(ended)}

    # --- hosts and sites

    def host_status(self, *, host: str, status: str) -> dict[str, Any]:
        """Suspend, revoke or (re)activate a host, named by its agent id or the beginning of it. Holds for its next call."""
        wanted = HostStatus(status)

        def job(note: RegisterEntry) -> Host:
            found = self._find(host)
            if found.status not in _ALLOWED_FROM.get(wanted, set()):
                raise AdminError(f"host {found.agent_id.hex()} is {found.status}: it cannot become {wanted}")
            self.set_status([found], wanted, note)
            return found

        found = self.office.commit_noted(job)
        log.info("host status set", extra={"agent_id": found.agent_id.hex(), "status": wanted.value})
        return {"agent_id": found.agent_id.hex(), "before": found.status.value, "status": wanted.value}

    def host_name(self, *, host: str, who: str, why: str) -> dict[str, Any]:
        """The name a server gave, from identity.db; who asked and why goes to its hosts."""
        registry = self.office.registry

        def job() -> dict[str, Any]:
            found = self._find(host)
            registry.write_journal(
                now_unix_milliseconds=self.office.now_unix_milliseconds(),
                who=who[:128],
                what=f"name of {found.agent_id.hex()}",
                why=why[:256],
            )
            return {"agent_id": found.agent_id.hex(), "host_name": registry.names().get(found.agent_id)}

        return self.office.commit(job)

    def site_put(self, *, site: str, zone: str | None = None, time_zone: str | None = None) -> dict[str, Any]:
        """Declare a site, or change its zones; its timetable stays, or is the default one. Keeps what is not given.

        The time zone of a site with machines stays: their records are filed by its civil days.
        """
        site = checked_name("site", site)

        def job(note: RegisterEntry) -> Site:
            known = {known.site: known for known in self.office.registry.sites()}.get(site)
            made = new_site(
                self.settings,
                site,
                zone or (known.zone if known else None),
                time_zone or (known.time_zone if known else None),
                self.known_factors.choose,
            )
            if known is not None and known.time_zone == made.time_zone:
                made = Site(site, made.zone, made.time_zone, known.calendar_json)
            elif known is not None and any(host.site == site for host in self.office.registry.hosts()):
                raise UsageError(
                    f"site '{site}' has machines: its time zone stays {known.time_zone}; declare another site for new ones"
                )
            note(SITE, **site_facts(made))
            self.office.registry.put_site(made)
            return made

        made = self.office.commit_noted(job)
        return {"site": made.site, "zone": made.zone, "time_zone": made.time_zone}

    # --- derivation

    def derive_all(self) -> dict[str, Any]:
        """Derive everything again: a corrected model repairs the past. Work goes on in the background."""
        periods = self.office.commit(self.derive_store.mark_all_dirty)
        self.derive.wake()
        return {"periods": periods}

    def roll(self) -> dict[str, Any]:
        """Keep the months that may be, in the background; what waits for it."""
        self.rolls.wake()
        return {"before": ended_by(self.office.now().date()).isoformat()}

    def flush(self, *, wait_seconds: float = FLUSH_SECONDS) -> dict[str, Any]:
        """Derive until nothing waits for it. Raises AdminError when that takes longer."""
        end = time.monotonic() + wait_seconds
        periods = 0
        while done := self.office.commit(self.derive.run_slice):
            periods += done
            if time.monotonic() > end:
                raise AdminError(
                    f"periods still wait to be derived after {wait_seconds:g} s: see 'veilleuse doctor'"
                )
        return {"periods": periods}

    # --- inside jobs of the writer

    def _find(self, host: str) -> Host:
        return one_host(self.office.registry.hosts(), host)

    def set_status(self, hosts: Sequence[Host], status: HostStatus, note: RegisterEntry) -> None:
        """Of each; all in one go to the register."""
        kind = ADMITTED if status is HostStatus.ACTIVE else EXCLUDED
        day = self.office.now().date().isoformat()
        changed = [host.agent_id.hex() for host in hosts if host.status is not status]
        note.all(kind, [{"agent_id": agent_id, "status": status.value, "day": day} for agent_id in changed])
        for host in hosts:
            if status is HostStatus.ACTIVE:  # an operator has looked
                self.office.registry.clear_conflicts(host.host_id)
            self.office.registry.set_status(host.host_id, status)
            self.office.standings.set_status(host.agent_id, status)

    def _token_sha256(self, token_id: int) -> bytes:
        (sha256,) = [
            token.token_sha256 for token in self.office.registry.tokens() if token.token_id == token_id
        ]
        return sha256

    def alone(self, job: Callable[[], T]) -> T:
        """Run a job of the writer outside any transaction, and wait. Raises what it raises."""
        return self.office.writer.submit(job, alone=True).result(ALONE_SECONDS)

    def _ensure_site(self, site: str, zone: str | None, time_zone: str | None, note: RegisterEntry) -> None:
        known = {known.site: known for known in self.office.registry.sites()}.get(site)
        if known is None:
            made = new_site(self.settings, site, zone, time_zone, self.known_factors.choose)
            note(SITE, **site_facts(made))
            self.office.registry.put_site(made)
        elif (zone or known.zone, time_zone or known.time_zone) != (known.zone, known.time_zone):
            raise UsageError(
                f"site '{site}' exists with zone {known.zone} and time zone {known.time_zone}: leave out --zone and --time-zone"
            )

    def _join_file(self) -> dict[str, Any]:
        """All of it but the secrets. Raises UsageError when no agent could use its addresses."""
        for word, address in (
            ("address", self.addresses.telemetry),
            ("enrolment_address", self.addresses.enrolment),
        ):
            _require_usable(word, address, self.settings.pki.server_names)
        authority = self.office.authority
        return {
            "version": JOIN_FILE_VERSION,
            "address": self.addresses.telemetry,
            "enrolment_address": self.addresses.enrolment,
            "ca_pem": authority.root_pem.decode(),
            "ca_sha256": authority.root_sha256,
        }


def new_site(
    settings: CollectorSettings,
    site: str,
    zone: str | None,
    time_zone: str | None,
    choose_factor: Callable[[str, int], ChosenFactor],
) -> Site:
    """A site with the default timetable; `choose_factor`: of the factors in force.

    Raises UsageError or UnknownZone for what cannot be one.
    """
    zone, time_zone = zone or settings.reporting.zone, time_zone or settings.reporting.time_zone
    # By its code, however it was named. Raises, before records wait for a factor that never comes.
    zone = choose_factor(zone, datetime.now(UTC).year).factor.zone
    try:
        return Site(checked_name("site", site), zone, time_zone, default_calendar(time_zone).to_json())
    except CalendarError as error:
        raise UsageError(f"site '{site}': {error}") from error


def _require_usable(word: str, address: str, server_names: Sequence[str]) -> None:
    """Raises UsageError when no agent could connect to this address, or none would believe who answers there."""
    host, _ = split_address(address)
    if host in WILDCARDS:
        raise UsageError(
            f"agents cannot connect to {address}: set grpc.advertised_{word} to a name of this collector"
        )
    if not {host.lower(), "*." + host.lower().partition(".")[2]} & {name.lower() for name in server_names}:
        raise UsageError(
            f"the collector's certificate is not for {host}: add it to pki.server_names and start the collector again, "
            f"or set grpc.advertised_{word} to one of {', '.join(server_names)}"
        )


OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "ping": Operations.ping,
    "health": Operations.read_health,
    "token_create": Operations.token_create,
    "token_list": Operations.token_list,
    "token_revoke": Operations.token_revoke,
    "host_status": Operations.host_status,
    "host_copies": hosts.decide_copies,
    "host_name": Operations.host_name,
    "host_forget": hosts.forget,
    "host_identity": hosts.identity,
    "site_put": Operations.site_put,
    "derive_all": Operations.derive_all,
    "roll": Operations.roll,
    "flush": Operations.flush,
    "ca_show": ca.show,
    "ca_rotate": ca.rotate,
    "ca_switch": ca.switch,
    "ca_retire": ca.retire,
    "ca_cancel": ca.cancel,
    "ca_renew_intermediate": ca.renew_intermediate,
    "ca_import": ca.bring,
    "ca_forget": ca.forget,
    "backup_copy": backup.copy,
    "backup_done": backup.done,
    "configuration_show": remote_config.show,
    "configuration_set": remote_config.set_candidate,
    "configuration_rollout": remote_config.advance,
    "configuration_accept": remote_config.accept,
    "configuration_withdraw": remote_config.withdraw,
    "calibration_put": calibration.put,
    "calibration_withdraw": calibration.withdraw,
    "meters_import": meters.bring,
    **grid.OPERATIONS,
    **actions.OPERATIONS,
    **accounts.OPERATIONS,
    **hosts.OPERATIONS,
    **published.OPERATIONS,
    **inventory.OPERATIONS,
    **factors.OPERATIONS,
    **closed_years.OPERATIONS,
    "calendar_import": calendar.bring,
    "calendar_show": calendar.show,
    "calendar_export": calendar.export,
    "calendar_school": calendar.bring_school_holidays,
}
"""Name on the socket → what it does; arguments by keyword."""
