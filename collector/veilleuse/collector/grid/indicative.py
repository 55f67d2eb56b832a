# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Energy × the grid's intensity of the same hour → indicative emissions (pure). METHOD.md §1.2; docs/indicative.md.

Weighted by energy, hour by hour: a mean intensity is never multiplied by a sum of energy (8 % too high on a sample day). What has no
intensity is a gap, with the energy in it; no yearly factor ever fills it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from veilleuse.collector.disclosure import EXEMPT, Cell, publish
from veilleuse.collector.model.figures import AUTRES, EnergySums, GroupKey
from veilleuse.collector.model.grid import Intensity, IntensityStatus
from veilleuse.collector.model.hourly import MINUTES_PER_HOUR, STATUSES, HourIntensity, Ledger, Line, Sums
from veilleuse.collector.model.records import HostId
from veilleuse.wire.units import MILLISECONDS_PER_HOUR


def by_hour(values: Iterable[Intensity]) -> dict[int, HourIntensity]:
    """Hour (Unix ms) → what is known of it. The values are of one series and zone, and do not overlap. Raises ValueError else.

    A value of a quarter, a half or a whole hour lies in one hour. Of an hour with three quarters known, a quarter is a gap.
    """
    weights: Counter[int] = Counter()
    minutes: defaultdict[int, Counter[IntensityStatus]] = defaultdict(Counter)
    of: set[tuple[str, str]] = set()
    for one in values:
        hour = one.start_unix_milliseconds - one.start_unix_milliseconds % MILLISECONDS_PER_HOUR
        weights[hour] += one.milligrams_per_kwh * one.minutes
        minutes[hour][one.status] += one.minutes
        of.add((one.zone, one.series))
    if len(of) > 1:
        raise ValueError(f"one series of one zone, not {sorted(of)}")
    found = {
        hour: HourIntensity(weights[hour], tuple(known[status] for status in STATUSES))
        for hour, known in minutes.items()
    }
    if any(hour.known_minutes > MINUTES_PER_HOUR for hour in found.values()):
        raise ValueError("values overlap")
    return found


@dataclass(slots=True)
class Group:
    """A group while it grows, with what each machine puts into it: the rule of disclosure needs to know."""

    machines: defaultdict[HostId, Sums] = field(default_factory=lambda: defaultdict(Sums))

    def cell(self, key: GroupKey) -> Cell[GroupKey]:
        """Energy; beside it what is known and what is a gap: each of them is a figure of its own."""
        return Cell(
            key,
            {host: one.energy_millijoules for host, one in self.machines.items()},
            (
                {host: one.known_energy_minutes for host, one in self.machines.items()},
                {host: one.gap_energy_minutes for host, one in self.machines.items()},
            ),
        )


Hours = Iterable[tuple[HostId, HourIntensity, EnergySums]]
"""(machine, intensity of its hours, energy of all its hours of that intensity)."""


def ledger(hours: Hours, key_of: Mapping[HostId, GroupKey], k: int) -> Ledger:
    """Groups of at least `k` machines, servers excepted; those too small in `autres`, or withheld. Machines not in `key_of` are left."""
    groups: defaultdict[GroupKey, Group] = defaultdict(Group)
    for host_id, hour, energy in hours:
        key = key_of.get(host_id)
        if key is not None:
            groups[key].machines[host_id].add(energy.energy_millijoules, hour)
    families: defaultdict[GroupKey, dict[GroupKey, Group]] = defaultdict(dict)
    for key, group in groups.items():
        families[replace(key, entity=None, site=None, device_class=None)][key] = group
    lines: list[Line] = []
    withheld: list[GroupKey] = []
    for family, members in families.items():
        if k == 1 or family.population in EXEMPT:
            lines += [_line(key, [group]) for key, group in members.items()]
            continue
        level = publish([group.cell(key) for key, group in members.items()], k)
        if level.withheld_keys:
            withheld.append(family)
            continue
        lines += [_line(cell.key, [members[cell.key]]) for cell in level.kept]
        lines += _autres(level.merged_keys, members)
    return Ledger(tuple(sorted(lines, key=_order)), tuple(sorted(withheld, key=str)))


def _order(line: Line) -> tuple[bool, str]:
    return line.key.memo, str(line.key)


def _line(key: GroupKey, groups: Sequence[Group]) -> Line:
    total, machines = Sums(), set[HostId]()
    for group in groups:
        machines.update(group.machines)
        for one in group.machines.values():
            total += one
    return Line(key, len(machines), total)


def _autres(hidden: Sequence[GroupKey], members: Mapping[GroupKey, Group]) -> Iterator[Line]:
    """The one line of those hidden: `autres` in every dimension that was asked for, blank in the others."""
    for key in hidden[:1]:
        named = replace(
            key,
            entity=key.entity and AUTRES,
            site=key.site and AUTRES,
            device_class=key.device_class and AUTRES,
            autres=True,
        )
        yield _line(named, [members[one] for one in hidden])
