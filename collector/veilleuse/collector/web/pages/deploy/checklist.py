# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tells what a new collector still lacks, by the conditions of `veilleuse doctor` where it has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from veilleuse.collector.backup.notes import last_backup
from veilleuse.collector.documents.text import Words
from veilleuse.collector.enrolment.root_key import root_key_files
from veilleuse.collector.enrolment.tokens import Addresses
from veilleuse.collector.exposition.conditions import BY_NAME
from veilleuse.collector.model.calendars import in_force
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.web.pages.frame import Look
from veilleuse.wire.values import is_loopback, split_address, split_addresses
from veilleuse.wire.vocabulary import Population

_ADDRESSES: Final = """\
[grpc]
address = "0.0.0.0:8641"
enrolment_address = "0.0.0.0:8642"
advertised_address = "collector.example.org:8641"
advertised_enrolment_address = "collector.example.org:8642"

[pki]
server_names = ["collector.example.org"]"""
"""Lines of collector.toml, as in docs/install-debian.md."""
_SEAL: Final = """\
veilleuse backup --new-key /etc/veilleuse/backup.key && chown veilleuse: /etc/veilleuse/backup.key

[backup]
key_file = "/etc/veilleuse/backup.key\""""
"""Command, then lines of collector.toml, as in docs/install-debian.md."""
SCRAPE_LATE: Final = timedelta(minutes=10)
"""Time without a scrape after which Prometheus is taken to be away; it reads every minute."""


@dataclass(frozen=True, slots=True)
class CheckItem:
    """One line of the list: what, whether it is done, what was seen, and the command that does it."""

    key: str
    is_done: bool
    seen: str
    command: str = ""


def checklist(store: ReadStore, look: Look) -> tuple[CheckItem, ...]:
    """Return the lines, in the order of docs/fr/installer.md."""
    w, now = look.w, datetime.fromtimestamp(look.context.clock(), UTC)
    return (*_of_collector(store, look, now), *_of_fleet(store, look), _heard(store, w), _scraped(look, now))


def _of_collector(store: ReadStore, look: Look, now: datetime) -> Iterator[CheckItem]:
    w, settings = look.w, look.settings
    address = Addresses.from_settings(settings).telemetry
    is_reachable = not all(is_loopback(split_address(one)[0]) for one in split_addresses(address))
    yield CheckItem("address", is_reachable, address, "" if is_reachable else _ADDRESSES)
    is_sealed = bool(settings.backup.key_file)
    seen = settings.backup.key_file or w("deploy.sealed_not")
    yield CheckItem("sealed", is_sealed, seen, "" if is_sealed else _SEAL)
    # Before the backup, which would hold the key.
    keys = root_key_files(settings.data_dir)
    yield CheckItem("root_key", not keys, ", ".join(map(str, keys)) or w("deploy.root_key_away"))
    made = last_backup(store.data.data_kind())
    is_recent = made is not None and BY_NAME["backup_old"].severity_of((now - made).total_seconds()) is None
    seen = w("deploy.backup_never") if made is None else w("deploy.backup_on", day=w.long_day(made.date()))
    command = "" if is_recent else "systemctl enable --now veilleuse-backup.timer"
    yield CheckItem("backup", is_recent, seen, command)


def _of_fleet(store: ReadStore, look: Look) -> Iterator[CheckItem]:
    w = look.w
    sites = store.data.sites()
    declared = sum(
        in_force(store.data.calendars(one), look.today, Population.CLASSROOM).declaration is not None
        for one in sites
    )
    is_declared = 0 < declared == len(sites)
    seen = (
        w("deploy.calendar_seen", declared=w.number(declared), sites=w.number(len(sites)))
        if sites
        else w("deploy.calendar_no_site")
    )
    create = "" if sites else " --create"
    command = "" if is_declared else f"veilleuse calendar import SITE.toml --site SITE{create}"
    yield CheckItem("calendar", is_declared, seen, command)
    imported = store.inventory.inventory_imported_on()
    seen = (
        w("deploy.inventory_never")
        if imported is None
        else w("deploy.inventory_on", day=w.long_day(imported))
    )
    command = (
        ""
        if imported
        else "veilleuse inventory template assets > assets.csv\nveilleuse inventory import assets.csv"
    )
    yield CheckItem("inventory", imported is not None, seen, command)


def _scraped(look: Look, now: datetime) -> CheckItem:
    w, last = look.w, look.context.scrape.unix_seconds
    is_recent = last is not None and now.timestamp() - last <= SCRAPE_LATE.total_seconds()
    seen = (
        w("deploy.prometheus_never")
        if last is None
        else w("deploy.prometheus_at", time=w.time(round(last * 1000)))
    )
    return CheckItem("prometheus", is_recent, seen)


def _heard(store: ReadStore, w: Words) -> CheckItem:
    heard = sum(one.last_contact_unix_milliseconds is not None for one in store.data.hosts())
    seen = w.count("deploy.machines_heard", heard) if heard else w("deploy.machines_none")
    return CheckItem("machine", heard > 0, seen, "" if heard else "veilleuse hosts list")
