# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Matches assets and agents' machines by pseudonyms (docs/wire.md §6), and lists what is doubtful. Pure.

A pair is linked only where one asset and one machine have each other's pseudonym and nothing contradicts it.
An operator decides on the rest, and that decision stands. A revoked machine is linked to the only asset with
its pseudonyms, whatever uses that asset now: nothing about it needs a decision.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Final, TypeVar

from veilleuse.collector.inventory.mapping import AGENT_CLASSES
from veilleuse.collector.model.inventory import (
    AssetMatches,
    AssetRecord,
    Candidate,
    Decision,
    Doubt,
    DoubtKind,
    MatchVerdict,
)
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import DeviceClass

T = TypeVar("T")
_FAMILY: Final[Mapping[str, str]] = {
    DeviceClass.MINI_PC.value: "desktop",
    DeviceClass.SFF.value: "desktop",
    DeviceClass.TOWER.value: "desktop",
}
"""Forms that inventories and firmware often confuse; all other forms are told apart reliably."""


def match(
    assets: Iterable[AssetRecord], machines: Sequence[Candidate], decisions: Iterable[Decision], day: date
) -> AssetMatches:
    """Return links and doubts on a civil day.

    `machines`: enrolled ones, and those enrolled until they were revoked.
    """
    return _Matcher(assets, machines, decisions, day).matching()


class _Matcher:
    def __init__(
        self,
        assets: Iterable[AssetRecord],
        machines: Sequence[Candidate],
        decisions: Iterable[Decision],
        day: date,
    ) -> None:
        self._day = day
        self._machines = {one.host_id: one for one in machines if not one.has_left}
        self._left = {one.host_id: one for one in machines if one.has_left}
        live = [one for one in assets if not one.is_duplicate]
        self._assets = [one for one in live if one.device_class in AGENT_CLASSES]
        self._live = {one.asset_id: one for one in live}
        self._links: dict[int, HostId] = {}
        self._earlier: dict[HostId, int] = {}
        self._ignored: set[tuple[int, HostId | None]] = set()
        for one in decisions:
            if one.verdict is MatchVerdict.IGNORED:
                self._ignored.add((one.asset_id, one.host_id))
            elif one.host_id in self._machines and one.asset_id in self._live:
                self._links[one.asset_id] = one.host_id
            elif one.host_id in self._left and one.asset_id in self._live:
                self._earlier[one.host_id] = one.asset_id
        self._taken = set(self._links.values())
        self._doubts: list[Doubt] = []

    def matching(self) -> AssetMatches:
        pairs = self._pairs()
        by_host: defaultdict[HostId, list[AssetRecord]] = defaultdict(list)
        for asset, host_id in pairs:
            by_host[host_id].append(asset)
        for host_id, several in by_host.items():
            if len(several) > 1:
                self._doubts += [
                    Doubt(DoubtKind.SEVERAL_ASSETS, one.asset_id, host_id, _other(several, one))
                    for one in several
                ]
            elif kind := _contradiction(several[0], self._machines[host_id], self._day):
                self._doubts.append(Doubt(kind, several[0].asset_id, host_id))
            else:
                self._links[several[0].asset_id] = host_id
        told = {doubt.asset_id for doubt in self._doubts}
        self._doubts += [
            doubt
            for doubt in self._twice()
            if doubt.asset_id not in told and doubt.other_asset_id not in told
        ]
        kept = tuple(doubt for doubt in self._doubts if (doubt.asset_id, None) not in self._ignored)
        self._look_back()
        return AssetMatches(
            self._links,
            tuple(sorted(kept, key=lambda doubt: (doubt.asset_id, doubt.kind.value))),
            self._earlier,
        )

    def _look_back(self) -> None:
        """Link revoked machines: each to one asset. One asset may have been several of them."""
        by_chassis = _index((one.chassis_pseudonym, one.asset_id) for one in self._assets)
        by_smbios = _index((one.smbios_pseudonym, one.asset_id) for one in self._assets)
        for host_id, machine in self._left.items():
            if host_id in self._earlier:
                continue
            serial, uuid = (
                {asset_id for asset_id in found.get(mark, ()) if self._may_be(asset_id, host_id)}
                for found, mark in (
                    (by_chassis, machine.chassis_pseudonym),
                    (by_smbios, machine.smbios_pseudonym),
                )
            )
            assets = [self._live[asset_id] for asset_id in (serial & uuid) or (serial | uuid)]
            if len(assets) == 1 and not _differs(assets[0], machine):
                self._earlier[host_id] = assets[0].asset_id

    def _may_be(self, asset_id: int, host_id: HostId) -> bool:
        return not {(asset_id, host_id), (asset_id, None)} & self._ignored

    def _pairs(self) -> list[tuple[AssetRecord, HostId]]:
        """Return assets with the only machine that has their pseudonyms; several machines make a doubt."""
        by_chassis = _index((one.chassis_pseudonym, one.host_id) for one in self._machines.values())
        by_smbios = _index((one.smbios_pseudonym, one.host_id) for one in self._machines.values())
        pairs: list[tuple[AssetRecord, HostId]] = []
        for asset in self._assets:
            if asset.asset_id in self._links or (asset.asset_id, None) in self._ignored:
                continue
            serial, uuid = (
                {host for host in found.get(mark, ()) if self._is_open(asset, host)}
                for found, mark in (
                    (by_chassis, asset.chassis_pseudonym),
                    (by_smbios, asset.smbios_pseudonym),
                )
            )
            candidates = (serial & uuid) or (serial | uuid)
            if len(candidates) == 1:
                pairs.append((asset, candidates.pop()))
            elif candidates:
                kind = (
                    DoubtKind.IDS_DISAGREE
                    if serial and uuid and not serial & uuid
                    else DoubtKind.SEVERAL_HOSTS
                )
                self._doubts += [Doubt(kind, asset.asset_id, host) for host in sorted(candidates)]
        return pairs

    def _is_open(self, asset: AssetRecord, host_id: HostId) -> bool:
        return host_id not in self._taken and (asset.asset_id, host_id) not in self._ignored

    def _twice(self) -> Iterable[Doubt]:
        """Yield each asset that repeats a serial number or UUID of an earlier one, of any device class."""
        first: dict[bytes, AssetRecord] = {}
        for asset in self._live.values():
            for mark in {asset.chassis_pseudonym, asset.smbios_pseudonym} - {b""}:
                other = first.setdefault(mark, asset)
                if other is not asset and (other.asset_id, None) not in self._ignored:
                    yield Doubt(DoubtKind.PSEUDONYM_TWICE, asset.asset_id, None, other.asset_id)
                    break


def _index(pairs: Iterable[tuple[bytes, T]]) -> dict[bytes, list[T]]:
    found: defaultdict[bytes, list[T]] = defaultdict(list)
    for mark, one in pairs:
        if mark:
            found[mark].append(one)
    return found


def _other(several: Sequence[AssetRecord], one: AssetRecord) -> int:
    return next(other.asset_id for other in several if other is not one)


def _contradiction(asset: AssetRecord, machine: Candidate, day: date) -> DoubtKind | None:
    """Return what contradicts a pair; None: nothing. An end of service in the future does not."""
    if asset.out_of_service_on is not None and asset.out_of_service_on <= day:
        return DoubtKind.OUT_OF_SERVICE
    return _differs(asset, machine)


def _differs(asset: AssetRecord, machine: Candidate) -> DoubtKind | None:
    ours, theirs = (_FAMILY.get(word, word) for word in (asset.device_class, machine.device_class))
    if DeviceClass.UNKNOWN.value not in (ours, theirs) and ours != theirs:
        return DoubtKind.CLASS_DISAGREES
    ours, theirs = _bare(asset.model), _bare(machine.model)
    if ours and theirs and ours not in theirs and theirs not in ours:
        return DoubtKind.MODEL_DISAGREES
    return None


def _bare(model: str) -> str:
    return re.sub(r"[\W_]+", "", model.casefold())
