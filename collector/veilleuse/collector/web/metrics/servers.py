# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keeps the servers of the registry between two looks, and counts them by difference.

A look reads only the servers that changed since the last one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import zip_longest
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.calendars.periods import Slice, enrolled_milliseconds
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.model.hosts import Host, HostStatus, Site
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.remote_config import Rollout, state_of
from veilleuse.collector.ports.store import ServerSumReader
from veilleuse.collector.silence import last_sign
from veilleuse.wire.vocabulary import SOURCES, DeviceClass, Population

STATUS: Final = "status"
ACTIVE: Final = "active"
CONFIGURATION: Final = "configuration"
VERSION: Final = "version"
SOURCE: Final = "source"
SOURCE_OF_CLASS: Final = "source_of_class"
SPOOL_RECORDS: Final = "spool_records"
SPOOL_BYTES: Final = "spool_bytes"
QUARANTINE: Final = "quarantine"
DROPPED: Final = "dropped"
"""First parts of a key of `ServerCounts.counts`."""

CountKey: TypeAlias = tuple[str, ...]


class KeySum(NamedTuple):
    """Sum over the servers that have a key."""

    servers: int
    """≥ 1."""
    amount: int


Part: TypeAlias = tuple[CountKey, int]
"""What one server adds to a key."""


class _Cohort(NamedTuple):
    """What enrolled time depends on."""

    virtual: bool
    site: str
    status: HostStatus
    enrolled_on: date
    last_contact_unix_milliseconds: int | None
    """Of a server that left."""


class _Server(NamedTuple):
    host: Host
    cohort: _Cohort
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ServerCounts:
    """Servers at one moment."""

    servers: int
    """Servers of any status."""
    counts: Mapping[CountKey, KeySum]
    members: tuple[Host, ...]
    """Active servers, the longest silent first."""

    def of(self, *head: str) -> dict[str, int]:
        """Return last part of the key → amount, of the keys that begin so."""
        size = len(head)
        return {key[size]: count.amount for key, count in sorted(self.counts.items()) if key[:size] == head}

    def active(self, *, virtual: bool) -> int:
        """Return the number of active physical or virtual servers."""
        return self.of(ACTIVE).get(str(virtual), 0)


def is_virtual(device_class: str) -> bool:
    """Return true when machines of this class are a memo line outside every total.

    A virtual machine's energy is already in its host's.
    """
    return device_class == DeviceClass.VIRTUAL_MACHINE.value


class ServerRegistry:
    """Keeps the servers. Not thread-safe: one caller at a time."""

    def __init__(self, sums: ServerSumReader) -> None:
        """Read nothing yet."""
        self._sums = sums
        self._change = 0
        self._rollout = Rollout(Population.SERVER)
        self._servers: dict[HostId, _Server] = {}
        self._counts: dict[CountKey, KeySum] = {}
        self._cohorts: defaultdict[_Cohort, dict[HostId, Host]] = defaultdict(dict)
        self._signs: list[tuple[int, HostId, Host]] = []
        """Active servers by their last sign, Unix ms."""

    def read(self, rollout: Rollout) -> ServerCounts:
        """Read what changed, and return the present counts; `rollout`: of servers."""
        if rollout != self._rollout:
            self._rollout = rollout
            for one in list(self._servers.values()):
                self._replace(one.host.host_id, one.host)
        for change, host in self._sums.changes(self._change):
            self._change = change
            self._replace(host.host_id, host)
        if self._sums.number_of_servers() != len(self._servers):
            for gone in self._servers.keys() - self._sums.server_ids():
                self._replace(gone, None)
        members = tuple([host for _, _, host in self._signs])
        return ServerCounts(len(self._servers), dict(self._counts), members)

    def enrolled(
        self, day: date, sites: Mapping[str, Site], now_unix_milliseconds: int
    ) -> Mapping[bool, tuple[int, int]]:
        """Return virtual → (servers, milliseconds enrolled) of a civil day up to now.

        Of each server at least its stored time: a measured machine was there, so coverage is never above 1.
        """
        part = Slice(day, date.fromordinal(day.toordinal() + 1))
        lengths = {
            cohort: enrolled_milliseconds(
                next(iter(hosts.values())), sites[cohort.site], part, now_unix_milliseconds
            )
            for cohort, hosts in self._cohorts.items()
        }
        servers, whole = Counter[bool](), Counter[bool]()
        for cohort, length in lengths.items():
            servers[cohort.virtual] += len(self._cohorts[cohort])
            whole[cohort.virtual] += length * len(self._cohorts[cohort])
        active = [length for cohort, length in lengths.items() if cohort.status is HostStatus.ACTIVE]
        for host_id, milliseconds in self._sums.times(day, min(active, default=0)).items():
            if host_id in self._servers:
                cohort = self._servers[host_id].cohort
                whole[cohort.virtual] += max(0, milliseconds - lengths[cohort])
        return {virtual: (servers[virtual], whole[virtual]) for virtual in (False, True)}

    def _replace(self, host_id: HostId, host: Host | None) -> None:
        old = self._servers.pop(host_id, None)
        if old is not None:
            del self._cohorts[old.cohort][host_id]
            if not self._cohorts[old.cohort]:
                del self._cohorts[old.cohort]
            if old.host.status is HostStatus.ACTIVE:
                del self._signs[bisect_left(self._signs, (last_sign(old.host), host_id))]
        if host is not None:
            new = _Server(host, _cohort_of(host), tuple(_parts_of(host, self._rollout)))
            self._servers[host_id] = new
            self._cohorts[new.cohort][host_id] = host
            if host.status is HostStatus.ACTIVE:
                insort(self._signs, (last_sign(host), host_id, host))
        self._count(old.parts if old else (), self._servers[host_id].parts if host else ())

    def _count(self, old: Sequence[Part], new: Sequence[Part]) -> None:
        """Subtract the parts of a server and add the new ones; most of them are equal."""
        for before, after in zip_longest(old, new):
            if before == after:
                continue
            for part, sign in ((before, -1), (after, 1)):
                if part is not None:
                    key, amount = part
                    servers, whole = self._counts.get(key, (0, 0))
                    self._counts[key] = KeySum(servers + sign, whole + sign * amount)
                    if not servers + sign:
                        del self._counts[key]


def _cohort_of(host: Host) -> _Cohort:
    left = host.status in (HostStatus.REVOKED, HostStatus.FORGOTTEN)
    contact = host.last_contact_unix_milliseconds if left else None
    return _Cohort(is_virtual(host.facts.device_class), host.site, host.status, host.enrolled_on, contact)


def _parts_of(host: Host, rollout: Rollout) -> Iterator[Part]:
    """Yield (key, amount) that a server adds to the counts: of its agent's health only while it is active."""
    yield (STATUS, host.status.value), 1
    if host.status is not HostStatus.ACTIVE:
        return
    yield (ACTIVE, str(is_virtual(host.facts.device_class))), 1
    yield (CONFIGURATION, state_of(rollout, host).value), 1
    health = host.health
    if health is None:
        return
    yield (VERSION, health.agent_version), 1
    yield (SPOOL_RECORDS, ""), health.spool_records
    yield (SPOOL_BYTES, ""), health.spool_bytes
    if health.quarantine_records is not None:
        yield (QUARANTINE, ""), health.quarantine_records
    for reason, records in health.drops:
        yield (DROPPED, reason.value), records
    for source in health.sources:
        name = source.name if source.name in SOURCES else c.OTHER
        if source.unavailable is not None:
            yield (SOURCE, name, "unavailable"), 1
            continue
        # One source of one host may have both: some reads succeeded and some failed.
        yield (SOURCE, name, "success"), int(source.successes > 0)
        yield (SOURCE, name, "failure"), int(source.failures > 0)
        yield (SOURCE_OF_CLASS, str(host.facts.device_class), name), int(source.failures > 0)
