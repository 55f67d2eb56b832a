# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Balances the meter tree of a room over a period:
machines, UPS loss, overhead, remainder (pure). docs/methodology.md §3.

Hour by hour, in integers: a meter's energy = its children's energy + its machines' energy + the residual.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.counters import round_quotient
from veilleuse.collector.model.meters import (
    WHOLE_PPM,
    DeclaredMeter,
    MeterBoundary,
    MeterDeclarations,
    MeterReading,
    MeterShare,
    Pue,
)
from veilleuse.collector.model.records import HostId

Hours = Mapping[str, Mapping[int, MeterReading]]
"""Meter → hour (Unix ms) → its reading."""

RESIDUAL_ERROR_PPM: Final = -50_000
"""Least residual of a correct tree: children above it measure over 5 % more than their meter.
docs/methodology.md §3.
"""
_LOSS_NOT_KNOWN: Final = "{}: the loss of the UPS is not known"


@dataclass(frozen=True, slots=True)
class NodeBalance:
    """One meter and its children, over the hours in which all of them were read. Millijoules."""

    meter: str
    boundary: MeterBoundary
    energy_millijoules: int
    children_millijoules: int
    machines_millijoules: int
    """Energy of machines with a share of this very meter."""
    hours: int
    hours_left_out: int
    """Hours with a reading of this meter but not of all its children: not compared."""

    @property
    def residual_millijoules(self) -> int:
        """Energy that nothing below explains; negative where the children measure more."""
        return self.energy_millijoules - self.children_millijoules - self.machines_millijoules

    @property
    def residual_ppm(self) -> int | None:
        """Residual as a share of the meter's own energy; None when that is 0."""
        if not self.energy_millijoules:
            return None
        return self.residual_millijoules * WHOLE_PPM // self.energy_millijoules

    @property
    def is_wrong(self) -> bool:
        """True below −5 %: a meter, a share or the tree is wrong."""
        ppm = self.residual_ppm
        return self.residual_millijoules < 0 if ppm is None else ppm < RESIDUAL_ERROR_PPM


@dataclass(frozen=True, slots=True)
class RoomBalance:
    """One room over one period, in millijoules ≥ 0; None = not known, never zero."""

    room: str
    it_millijoules: int
    """IT energy of the room, at the PUE's metering point where a PUE is declared."""
    machines_millijoules: int
    """Part of the machines that declare a share."""
    other_room_millijoules: int
    """Rest of the IT energy: network, storage, undeclared equipment."""
    ups_loss_millijoules: int | None
    """0 with a PUE, which contains it."""
    overhead_millijoules: int | None
    overhead: str
    """Origin of the overhead: measured, pue or not_included."""
    overhead_u_millijoules: int
    """Standard uncertainty of the overhead by PUE: IT × PUE × u,
    because GSD² 1.1 is of the PUE, not of PUE − 1.
    """
    sensitivity_millijoules: int | None
    """Overhead at a PUE of 1.55, where it is not included."""
    nodes: tuple[NodeBalance, ...]
    notes: tuple[str, ...] = ()


def node_balance(
    meter: DeclaredMeter, children: Sequence[DeclaredMeter], hours: Hours, shares_ppm: Mapping[int, int]
) -> NodeBalance:
    """Balance one meter; `shares_ppm`: hour → machines' total share of this meter; none = 0.

    Where children were read for a part of an hour, all count over the time that all of them cover.
    """
    own = hours.get(meter.meter, {})
    energy = below = machines = compared = 0
    for hour, read in own.items():
        others = [hours.get(child.meter, {}).get(hour) for child in children]
        known = [one for one in others if one is not None]
        if len(known) < len(others):
            continue
        common = min(one.covered_milliseconds for one in (read, *known))
        compared += 1
        mine = _within(read, common)
        energy += mine
        below += sum(_within(one, common) for one in known)
        machines += mine * shares_ppm.get(hour, 0) // WHOLE_PPM
    return NodeBalance(meter.meter, meter.boundary, energy, below, machines, compared, len(own) - compared)


def room_balance(
    room: str, declared: MeterDeclarations, hours: Hours, day_of: Mapping[int, int]
) -> RoomBalance:
    """Balance one room; `day_of`: hour → day number in the meters' site, for each hour of the period.

    The UPS loss counts once: a known loss is subtracted from the remainder.
    """
    tree = _Tree(room, declared)
    sums = _Sums()
    nodes = []
    for meter in tree.meters:
        node = node_balance(meter, tree.children(meter), hours, tree.shares_ppm(meter.meter, hours, day_of))
        nodes.append(node)
        _book(tree, meter, node, sums)
    it = sums.machines + max(0, sums.other)
    balance = RoomBalance(
        room,
        it_millijoules=it,
        machines_millijoules=sums.machines,
        other_room_millijoules=max(0, sums.other),
        ups_loss_millijoules=sums.loss,
        overhead_millijoules=None if sums.overhead is None else max(0, sums.overhead),
        overhead="not_included" if sums.overhead is None else "measured",
        overhead_u_millijoules=0,
        sensitivity_millijoules=None if sums.overhead is not None else _over(it, priors.SENSITIVITY_PUE_PPM),
        nodes=tuple(nodes),
        notes=tuple(sums.notes),
    )
    pues = _pues(room, declared, day_of)
    return _with_pue(balance, tree, hours, day_of, pues) if pues else balance


def whole_hours(
    room: str, declared: MeterDeclarations, hours: Hours, day_of: Mapping[int, int]
) -> dict[int, int]:
    """Return the hours in which the room is fully known → milliseconds that its meters cover together.

    All meters were read then, except those of cooling alone. On the days of a PUE, all meters at its point
    were read.
    """
    tree = _Tree(room, declared)
    pues = _pues(room, declared, day_of)
    points = [tree.highest(pue.point) for pue in pues]
    everything = [meter for meter in tree.meters if meter.boundary is not MeterBoundary.OVERHEAD]
    found: dict[int, int] = {}
    for hour, day in day_of.items():
        needed = everything
        if any(points):
            needed = next((at for pue, at in zip(pues, points, strict=True) if _is_in_force(pue, day)), [])
        read = [hours.get(meter.meter, {}).get(hour) for meter in needed]
        covered = [one.covered_milliseconds for one in read if one is not None]
        if covered and len(covered) == len(read):
            found[hour] = min(covered)
    return found


@dataclass(frozen=True, slots=True)
class ServersBalance:
    """A room with the derived energy of its servers. Millijoules ≥ 0."""

    balance: RoomBalance
    """Machines and `other_room`, with servers without a share; servers with a share count by their share."""
    metered_millijoules: int
    """Metered energy of its whole hours, for servers and the remainder."""
    other_millijoules: int
    """Remainder when all measured servers have their derived energy, with or without a share."""
    others_millijoules: int
    """Energy of machines other than servers, by their shares, in all hours."""


def with_servers(
    room: str,
    declared: MeterDeclarations,
    hours: Hours,
    day_of: Mapping[int, int],
    whole: Collection[int],
    servers: Collection[HostId],
    measured_millijoules: int,
    placed_millijoules: int,
) -> ServersBalance:
    """Balance a room with its servers.

    `measured_millijoules`: derived energy of the room's servers in its `whole` hours; `placed_millijoules`:
    the part of servers without a share.
    """
    apart = MeterDeclarations(
        declared.meters,
        tuple(share for share in declared.shares if share.host_id not in servers),
        declared.pues,
    )
    inside = {name: {at: one for at, one in seen.items() if at in whole} for name, seen in hours.items()}
    days_inside = {hour: day_of[hour] for hour in whole}
    balance, then = (
        room_balance(room, declared, seen, days) for seen, days in ((hours, day_of), (inside, days_inside))
    )
    others, others_then = (
        room_balance(room, apart, seen, days).machines_millijoules
        for seen, days in ((hours, day_of), (inside, days_inside))
    )
    beside = max(0, balance.other_room_millijoules - then.other_room_millijoules)
    metered = then.it_millijoules - others_then
    made = replace(
        balance,
        machines_millijoules=balance.machines_millijoules + placed_millijoules,
        other_room_millijoules=beside + max(0, then.other_room_millijoules - placed_millijoules),
    )
    return ServersBalance(made, metered, beside + max(0, metered - measured_millijoules), others)


@dataclass(slots=True)
class _Sums:
    """Sums while the tree is walked."""

    machines: int = 0
    other: int = 0
    loss: int | None = None
    overhead: int | None = None
    notes: list[str] = field(default_factory=list)

    def lose(self, energy: int) -> None:
        self.loss = (self.loss or 0) + energy

    def cool(self, energy: int) -> None:
        self.overhead = (self.overhead or 0) + energy


class _Tree:
    """The meters of one room."""

    def __init__(self, room: str, declared: MeterDeclarations) -> None:
        self.meters = [meter for meter in declared.meters if meter.room == room]
        names = {meter.meter for meter in self.meters}
        self._shares: defaultdict[str, list[MeterShare]] = defaultdict(list)
        for share in declared.shares:
            self._shares[share.meter].append(share)
        self._children: defaultdict[str, list[DeclaredMeter]] = defaultdict(list)
        for meter in self.meters:
            if meter.parent in names:
                self._children[str(meter.parent)].append(meter)

    def children(self, meter: DeclaredMeter) -> list[DeclaredMeter]:
        return self._children[meter.meter]

    def shares_ppm(self, meter: str, hours: Hours, day_of: Mapping[int, int]) -> dict[int, int]:
        """Return hour with a reading → the machines' total share of the meter.

        A machine with a share of a meter below as well counts at that one.
        """
        below = [share for name in self._below(meter) for share in self._shares[name]]
        on: dict[int, int] = {}
        for day in {day_of[hour] for hour in hours.get(meter, {})}:
            there = {(share.host_id, share.part) for share in below if _is_in_force(share, day)}
            on[day] = sum(
                share.share_ppm
                for share in self._shares[meter]
                if _is_in_force(share, day) and (share.host_id, share.part) not in there
            )
        return {hour: on[day_of[hour]] for hour in hours.get(meter, {})}

    def _below(self, meter: str) -> Iterable[str]:
        """Yield all meters below, at any depth."""
        for child in self._children[meter]:
            yield child.meter
            yield from self._below(child.meter)

    def machines_millijoules(self, hours: Hours, day_of: Mapping[int, int]) -> int:
        """Sum the energy of machines with a share, over these hours."""
        return sum(
            node_balance(
                meter, self.children(meter), hours, self.shares_ppm(meter.meter, hours, day_of)
            ).machines_millijoules
            for meter in self.meters
        )

    def highest(self, boundary: MeterBoundary) -> list[DeclaredMeter]:
        """Return the meters of a boundary that have no other of it above."""
        by_name = {meter.meter: meter for meter in self.meters}

        def above(meter: DeclaredMeter) -> Iterable[DeclaredMeter]:
            parent = by_name.get(meter.parent or "")
            while parent is not None:
                yield parent
                parent = by_name.get(parent.parent or "")

        return [
            meter
            for meter in self.meters
            if meter.boundary is boundary and all(one.boundary is not boundary for one in above(meter))
        ]


def _book(tree: _Tree, meter: DeclaredMeter, node: NodeBalance, sums: _Sums) -> None:
    """Add one meter's machines, and its residual to the category of its boundary."""
    children = tree.children(meter)
    sums.machines += node.machines_millijoules
    if node.is_wrong and children:
        sums.notes.append(f"{meter.meter}: what hangs below it counts more than 5 % more than it does")
    if node.hours_left_out:
        sums.notes.append(f"{meter.meter}: {node.hours_left_out} hours without all meters below it")
    left = max(0, node.residual_millijoules)
    if meter.boundary is MeterBoundary.OVERHEAD:
        sums.cool(left)
    elif meter.boundary is MeterBoundary.FACILITY:
        sums.cool(left) if children else sums.notes.append(f"{meter.meter}: nothing is declared below it")
    elif meter.boundary is MeterBoundary.UPS_INPUT and _is_ups(children):
        sums.lose(left)
    elif meter.boundary is MeterBoundary.UPS_INPUT and meter.efficiency_ppm is not None:
        loss = min(
            left, node.energy_millijoules - round_quotient(node.energy_millijoules * meter.efficiency_ppm)
        )
        sums.lose(loss)
        sums.other += left - loss
    else:
        sums.other += left
        if meter.boundary is MeterBoundary.UPS_INPUT:
            sums.notes.append(_LOSS_NOT_KNOWN.format(meter.meter))
    if meter.boundary is MeterBoundary.UPS_OUTPUT:
        _book_output(tree, meter, node, sums)


def _book_output(tree: _Tree, meter: DeclaredMeter, node: NodeBalance, sums: _Sums) -> None:
    """Add the loss of a UPS metered at its output alone, by its declared efficiency.

    The loss is subtracted from the remainder above.
    """
    above = next((one for one in tree.meters if one.meter == meter.parent), None)
    if above is not None and above.boundary is MeterBoundary.UPS_INPUT:
        return
    if meter.efficiency_ppm is None:
        sums.notes.append(_LOSS_NOT_KNOWN.format(meter.meter))
        return
    loss = round_quotient(node.energy_millijoules * WHOLE_PPM, meter.efficiency_ppm) - node.energy_millijoules
    sums.lose(loss)
    if above is not None and above.boundary is MeterBoundary.FACILITY:
        sums.cool(-loss)
    elif above is not None:
        sums.other -= loss


def _is_ups(children: Sequence[DeclaredMeter]) -> bool:
    return bool(children) and all(child.boundary is MeterBoundary.UPS_OUTPUT for child in children)


def _with_pue(
    balance: RoomBalance, tree: _Tree, hours: Hours, day_of: Mapping[int, int], pues: Sequence[Pue]
) -> RoomBalance:
    """Apply the PUE for its declared days: IT at its metering point, with the UPS loss inside the PUE."""
    it = overhead = machines = covered = at_the_socket = 0
    for pue in pues:
        first, last = pue.valid_from.toordinal(), pue.valid_to.toordinal()
        inside = {hour for hour, day in day_of.items() if first <= day <= last}
        energy = sum(
            read.energy_millijoules
            for meter in tree.highest(pue.point)
            for hour in inside
            if (read := hours.get(meter.meter, {}).get(hour)) is not None
        )
        it += energy
        overhead += _over(energy, pue.pue_ppm)
        at_the_socket += round_quotient(energy * pue.pue_ppm)
        covered += len(inside)
        then = {
            name: {hour: read for hour, read in seen.items() if hour in inside}
            for name, seen in hours.items()
        }
        machines += tree.machines_millijoules(then, day_of)
    if not it:
        nothing = "no meter was read at the PUE's metering point"
        return replace(balance, notes=(*balance.notes, nothing))
    notes = balance.notes
    if covered < len(day_of):
        notes += (f"{len(day_of) - covered} hours of the period have no PUE: they are not in it",)
    return replace(
        balance,
        it_millijoules=it,
        machines_millijoules=machines,
        other_room_millijoules=max(0, it - machines),
        ups_loss_millijoules=0,
        overhead_millijoules=overhead,
        overhead="pue",
        overhead_u_millijoules=round_quotient(at_the_socket * priors.PUE_U_PPM),
        sensitivity_millijoules=None,
        notes=notes,
    )


def _pues(room: str, declared: MeterDeclarations, day_of: Mapping[int, int]) -> list[Pue]:
    """Return the PUEs in force on any of the days."""
    days = frozenset(day_of.values())
    return [pue for pue in declared.pues if pue.room == room and any(_is_in_force(pue, day) for day in days)]


def _is_in_force(one: MeterShare | Pue, day: int) -> bool:
    return one.valid_from.toordinal() <= day <= one.valid_to.toordinal()


def _over(energy: int, pue_ppm: int) -> int:
    return round_quotient(energy * (pue_ppm - WHOLE_PPM))


def _within(read: MeterReading, common: int) -> int:
    if read.covered_milliseconds == common:
        return read.energy_millijoules
    return round_quotient(read.energy_millijoules * common, read.covered_milliseconds)
