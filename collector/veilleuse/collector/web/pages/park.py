# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of the fleet's state: inventory against agents, silence, failing sources, versions.

It is for administrators. Of PCs it has counts of the whole fleet only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.model.clones import find_twins
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.inventory import Asset, Doubt
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.silence import SilenceLevel, sentence_of
from veilleuse.collector.web.pages.conditions import waiting_silences
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.parts import Grid, Head, cells
from veilleuse.wire.vocabulary import DeviceClass, Population

PATH: Final = "/parc"
_WITH_AGENTS: Final = frozenset(one.value for one in DeviceClass)
"""Classes on which an agent can run: a screen never has one."""


@dataclass(frozen=True, slots=True)
class ParkPage:
    """Values of the template."""

    imported: str
    tiles: tuple[tuple[str, str, str], ...]
    """(label, value, note)."""
    classes: Grid | None
    silences: tuple[str, ...]
    waiting_silences: tuple[str, ...]
    """Sentences about machines that have not called yet, and are not judged."""
    sources: Grid | None
    versions: Grid | None
    waiting: tuple[str, ...]
    """Sentences about machines and assets that wait for a person, each with its command."""


async def park(look: Look) -> Mapping[str, object]:
    """Build the page."""
    snapshot = await look.snapshot()
    silences = tuple(
        sentence_of(one, look.w)
        for one in snapshot.silence
        if one.level in (SilenceLevel.WARNING, SilenceLevel.FAILED)
    )
    waiting = tuple(waiting_silences(snapshot, look.w))
    page = await look.read(lambda store: _page(store, look, silences, waiting))
    return {"page": page}


def _page(store: ReadStore, look: Look, silences: tuple[str, ...], waiting: tuple[str, ...]) -> ParkPage:
    w = look.w
    hosts = [one for one in store.data.hosts() if one.status is not HostStatus.REVOKED]
    assets, doubts = store.inventory.assets(), store.inventory.doubts()
    twins = len(find_twins(hosts, store.data.data_kind(), look.today))
    imported = store.inventory.inventory_imported_on()
    in_service = [one for one in assets if _serves(one, look.today)]
    return ParkPage(
        w("park.no_inventory") if imported is None else w("park.imported", day=w.day(imported.isoformat())),
        tuple(_tiles(hosts, in_service, w)),
        _classes(hosts, in_service, w),
        silences,
        waiting,
        _sources(hosts, w),
        _versions(hosts, w),
        tuple(_waiting(hosts, twins, assets, doubts, w)),
    )


def _serves(asset: Asset, today: date) -> bool:
    begun = asset.in_service_on is None or asset.in_service_on <= today
    return begun and (asset.out_of_service_on is None or asset.out_of_service_on > today)


def _tiles(hosts: Iterable[Host], in_service: list[Asset], w: Words) -> Iterable[tuple[str, str, str]]:
    active = Counter(one.population for one in hosts if one.status is HostStatus.ACTIVE)
    matched = sum(one.host_id is not None for one in in_service)
    if in_service:
        yield w("park.assets"), w.number(len(in_service)), w("park.assets_note")
    told = ", ".join(w.count(f"count.{one.value}", active[one]) for one in Population if active[one])
    yield w("park.agents"), w.number(sum(active.values())), told
    if in_service:
        share = w.percent(matched / len(in_service))
        yield w("park.matched"), w.number(matched), w("park.matched_note", share=share)


def _classes(hosts: Iterable[Host], in_service: Iterable[Asset], w: Words) -> Grid | None:
    """Return assets in service beside machines with an agent, by device class."""
    listed = Counter(one.device_class for one in in_service)
    matched = Counter(one.device_class for one in in_service if one.host_id is not None)
    enrolled = Counter(one.facts.device_class.value for one in hosts if one.status is HostStatus.ACTIVE)
    rows = tuple(
        cells(
            w.word("device_class", name),
            w.number(listed[name]) if listed[name] else DASH,
            w.number(enrolled[name]) if enrolled[name] else DASH,
            w.number(matched[name]) if matched[name] else DASH,
            w.percent(matched[name] / listed[name]) if listed[name] and name in _WITH_AGENTS else DASH,
        )
        for name, _ in (listed + enrolled).most_common()
    )
    keys = ("class", "listed", "enrolled", "with_asset", "share")
    heads = tuple(Head(w(f"park.{key}"), is_number=key != "class") for key in keys)
    return Grid(w("park.classes"), heads, rows) if rows else None


def _sources(hosts: Iterable[Host], w: Words) -> Grid | None:
    """Return the number of machines on which a source gives nothing, and why."""
    counts = Counter(
        (source.name, source.unavailable or "failing", host.population is Population.SERVER)
        for host in hosts
        if host.health is not None
        for source in host.health.sources
        if source.unavailable not in (None, "no_device") or source.failures > source.successes
    )
    rows = tuple(
        cells(
            name, w.word("unavailable", why), w("park.servers" if is_server else "park.pcs"), w.number(number)
        )
        for (name, why, is_server), number in counts.most_common()
    )
    keys = ("source", "why", "machines", "number")
    heads = tuple(Head(w(f"park.{key}"), is_number=key == "number") for key in keys)
    return Grid(w("park.sources"), heads, rows) if rows else None


def _versions(hosts: Iterable[Host], w: Words) -> Grid | None:
    counts = Counter(one.health.agent_version for one in hosts if one.health is not None)
    rows = tuple(
        cells(version or DASH, w.number(number)) for version, number in sorted(counts.items(), reverse=True)
    )
    heads = (Head(w("park.version")), Head(w("park.number"), is_number=True))
    return Grid(w("park.versions"), heads, rows) if rows else None


def _waiting(
    hosts: Iterable[Host], twins: int, assets: Iterable[Asset], doubts: Iterable[Doubt], w: Words
) -> Iterable[str]:
    pending = [one for one in hosts if one.status is HostStatus.PENDING]
    if clones := sum(one.copy_of is not None for one in pending):
        yield w.count("park.clones", clones)
    if others := len(pending) - clones:
        yield w.count("park.pending", others)
    if disputed := sum(bool(one.conflicts) for one in hosts):
        yield w.count("park.disputed", disputed)
    if twins:
        yield w.count("park.twins", twins)
    if review := len(tuple(doubts)):
        yield w.count("park.review", review)
    if absent := sum(one.absent_since is not None and one.out_of_service_on is None for one in assets):
        yield w.count("park.absent", absent)
