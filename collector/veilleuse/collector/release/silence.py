# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lets a machine that is silent all month decide as much about a release as if it had been heard.

docs/decisions/0046. Which parts of time and energy a row tells depends on the watts of its machines, and of
their screens. Where only a machine of other watts is silent, more could be told than in other months: that
would tell its silence. So it decides by its last month.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import timedelta
from itertools import accumulate, pairwise
from statistics import median_low
from typing import Final, NamedTuple, TypeAlias, TypeVar

from veilleuse.collector.account.group_sums import Tally, lacked_by_all, sum_tallies
from veilleuse.collector.account.observations import tally_periods
from veilleuse.collector.disclosure.parts import Part, spent_of
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import KNOWN_STATES, REST_STATES, EnergyClass
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports.store import DataReader
from veilleuse.collector.shipped_tables import STATE_POWERS
from veilleuse.wire.units import (
    MICROWATTS_PER_WATT,
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_HOUR,
    MILLISECONDS_PER_SECOND,
)
from veilleuse.wire.vocabulary import DeviceClass, State

Usual: TypeAlias = Mapping[tuple[Part, State], float]
"""Part and state that most machines of a class have → watts."""
_OF_NO_MODEL: Final = 1e6
"""Watts that no model has: those of a state in which the class is metered."""
K = TypeVar("K")


LOOK_BACK_MONTHS: Final = 3
"""Months before a release in which its silent machines are looked for."""
LITTLE: Final = 2
"""Least ratio of time at rest to its correction; below it, all known time is corrected."""


def round_to_machine_days(tally: Tally, k: int) -> Tally:
    """Return the tally with its known time rounded, where 1 to k − 1 machines were silent.

    It is the time that it would have if nobody was silent, less a multiple of 24 h × machines, and so never
    above enrolled time. Time at rest takes the difference, and its energy in proportion. Watts stay the same:
    otherwise a model's watts would reveal the time.
    """
    machines = machines_of_row(tally.hosts, tally.enrolled, k)
    known = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in KNOWN_STATES)
    if not known or tally.may_publish_silence(machines, k):
        return tally
    silent = tally.silence_of(machines)
    shared = lacked_by_all(silent)
    lost = sum(shared if time - shared > MILLISECONDS_PER_SECOND else time for time in silent.values())
    whole = sum(tally.enrolled[one] for one in machines) - lost
    step = len(machines) * MILLISECONDS_PER_DAY
    steps = max(0, min((whole - known + step // 2) // step, (whole - 1) // step))  # never to 0
    target = whole - steps * step
    rest = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in REST_STATES)
    states = REST_STATES if rest > LITTLE * abs(target - known) else KNOWN_STATES
    return _add_time(tally, states, target - known, rest if states is REST_STATES else known)


def _add_time(tally: Tally, states: frozenset[State], more: int, of: int) -> Tally:
    """Add `more` milliseconds to the `of` milliseconds of these states, in proportion."""

    def changed(value: int) -> int:
        return value * (of + more) // of

    times = {key: sums for key, sums in tally.states.items() if key[1] in states}
    whole = _in_proportion({key: sums.milliseconds for key, sums in times.items()}, of, more)
    found = replace(tally)
    found.states = tally.states | {
        key: replace(sums.share(changed), milliseconds=whole[key]) for key, sums in times.items()
    }
    found.energies = dict(tally.energies)
    for key, energy in tally.energies.items():
        if key[3] in states:
            found.energies[key] = replace(energy.share(changed), milliseconds=energy.milliseconds)
    # A month pairs methods' times with states in order: the time with an energy is scaled as a whole.
    derived = {key: energy.milliseconds for key, energy in found.energies.items()}
    known = sum(sums.milliseconds for (_, state), sums in tally.states.items() if state in KNOWN_STATES)
    for key, milliseconds in _in_proportion(derived, known, more).items():
        found.energies[key] = replace(found.energies[key], milliseconds=milliseconds)
    return found


def _in_proportion(values: Mapping[K, int], of: int, more: int) -> Mapping[K, int]:
    """Multiply each value by (of + more) ÷ of, rounded so that the sum is too."""
    ends: Sequence[int] = [end * (of + more) // of for end in accumulate(values.values(), initial=0)]
    return {key: after - before for key, (before, after) in zip(values, pairwise(ends), strict=True)}


def machines_of_row(heard: Collection[HostId], enrolled: Collection[HostId], k: int) -> frozenset[HostId]:
    """Return the machines that a row counts: the enrolled ones, or those heard where k or more were not."""
    every = {*heard, *enrolled}
    return frozenset(heard if len(every) - len(heard) >= k else every)


class LastHeard(NamedTuple):
    """Silent machines in the last month in which each was heard, and their screens."""

    pcs: Tally
    screens: Tally


NOBODY: Final = LastHeard(Tally(), Tally())


def last_heard(
    reader: DataReader,
    query: Query,
    hosts: Iterable[Host],
    places: Mapping[HostId, GroupKey],
    groups: Iterable[Tally],
) -> LastHeard:
    """Read the last month of machines of which nothing was heard in these groups of a month."""
    found = LastHeard(Tally(), Tally())
    silent = {one for tally in groups for one in tally.enrolled.keys() - tally.hosts}
    first = query.first
    for _ in range(LOOK_BACK_MONTHS):
        end, first = first, (first - timedelta(days=1)).replace(day=1)
        silent -= found.pcs.hosts
        left = [host for host in hosts if query.same.get(host.host_id, host.host_id) in silent]
        month = replace(query, first=first, end=end)
        before = (
            tally_periods(reader, Periods(reader, left), month, left, places, screens=True) if left else {}
        )
        for key, tally in before.items():
            (found.screens if key.device_class == EnergyClass.MONITOR.value else found.pcs).add(tally)
    return found


def with_silent(tally: Tally, enrolled: Set[HostId], last: Tally) -> Tally:
    """Return a tally with those of its enrolled machines that were last heard in another month."""
    return sum_tallies([tally, _part_of(last, enrolled - tally.hosts)])


def _part_of(tally: Tally, machines: Set[HostId]) -> Tally:
    def inside(table: Mapping[K, Counter[HostId]]) -> defaultdict[K, Counter[HostId]]:
        shares = {key: {one: of[one] for one in machines & of.keys()} for key, of in table.items()}
        return defaultdict(Counter, {key: Counter(of) for key, of in shares.items()})

    return Tally(times=inside(tally.times), spans=inside(tally.spans), draws=inside(tally.draws))


def silent_watts(family: Mapping[GroupKey, Tally], last: Tally) -> dict[GroupKey, Tally]:
    """Return group → its silent machines, with the states and watts of when they were last heard.

    Where that is not known, they are those that are usual for the class.
    """
    usual: dict[str | None, Usual] = {}
    found, known = {}, last.hosts
    for key, tally in family.items():
        silent = tally.enrolled.keys() - tally.hosts
        found[key] = _part_of(last, silent)
        silent -= known
        if silent and key.device_class not in usual:
            usual[key.device_class] = _usual_of(key.device_class, family)
        for span, watts in usual[key.device_class].items() if silent else ():
            found[key].spans[span].update(dict.fromkeys(silent, MILLISECONDS_PER_HOUR))
            found[key].draws[span].update(dict.fromkeys(silent, round(watts * MILLISECONDS_PER_HOUR)))
    return found


def _usual_of(device_class: str | None, family: Mapping[GroupKey, Tally]) -> Usual:
    alike = [one for key, one in family.items() if key.device_class == device_class and one.hosts]
    heard = alike or [one for one in family.values() if one.hosts]
    machines = sum(len(one.hosts) for one in heard)
    having = Counter[tuple[Part, State]]()
    for one in heard:
        having.update({span: len(times) for span, times in one.spans.items()})
    watts: defaultdict[tuple[Part, State], list[float]] = defaultdict(list)
    for one in alike:
        for _, span, time, energy in spent_of(one):
            if time:
                watts[span].append(energy / time)
    unheard = {} if alike else _priors(device_class)
    return {
        span: median_low(watts[span]) if watts[span] else unheard.get(span[1], _OF_NO_MODEL)
        for span, number in having.items()
        if 2 * number > machines
    }


def _priors(device_class: str | None) -> Mapping[State, float]:
    known = next((one for one in DeviceClass if one.value == device_class), DeviceClass.UNKNOWN)
    powers = STATE_POWERS.get(known, STATE_POWERS[DeviceClass.UNKNOWN])
    microwatts = {
        State.OFF: powers.off_microwatts,
        State.ASLEEP: powers.sleep_microwatts,
        State.ON_IDLE: powers.idle_microwatts,
    }
    return {state: value / MICROWATTS_PER_WATT for state, value in microwatts.items() if value is not None}


def as_if_heard(tally: Tally, silent: Iterable[Tally]) -> Tally:
    """Return the tally of a row with its silent machines, in the parts that the row has."""
    more = sum_tallies(silent)
    if not more.spans:
        return tally
    has = {part for part, machines in tally.times.items() if any(machines.values())}
    whole = sum_tallies([tally])
    for mine, table in ((whole.spans, more.spans), (whole.draws, more.draws)):
        for span, machines in table.items():
            if span[0] in has:
                mine[span].update(machines)
    return whole
