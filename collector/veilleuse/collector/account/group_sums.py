# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums a group with the contribution of each machine, which the disclosure rule needs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from veilleuse.collector.disclosure.partition import merge_families
from veilleuse.collector.disclosure.parts import (
    BY_CLASS,
    KNOWN,
    LEVELS,
    NO_PARTS,
    ON,
    PART_OF,
    REST,
    Level,
    Part,
    Rates,
    away,
    known_rates,
    rates_in,
    rates_of,
    spent_of,
    unknown,
)
from veilleuse.collector.disclosure.rule import (
    EXEMPT,
    DisclosureCell,
    always_left,
    count,
    is_nobodys_or_enough,
    is_nobodys_or_safe,
)
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import (
    ON_STATES,
    REST_STATES,
    Detail,
    EnergyClass,
    EnergyKey,
    EnergySums,
    Group,
    GroupSums,
    StateSums,
)
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

K = TypeVar("K")
Shares: TypeAlias = "defaultdict[Part, Counter[HostId]]"

_ALL: Final = KNOWN | Part.OTHER
_LITTLE_SILENCE: Final = 10
"""A machine that was silent for less than the longest silence divided by this is not one of its k."""


def _by_part() -> Shares:
    return defaultdict(Counter)


def _by_state() -> defaultdict[tuple[Part, State], Counter[HostId]]:
    return defaultdict(Counter)


@dataclass(slots=True)
class Tally:
    """Sums of a group, with each machine's contribution."""

    states: dict[tuple[Band, State], StateSums] = field(default_factory=dict)
    energies: dict[EnergyKey, EnergySums] = field(default_factory=dict)
    enrolled: Counter[HostId] = field(default_factory=Counter)
    """Enrolled milliseconds."""
    times: Shares = field(default_factory=_by_part)
    """Milliseconds of known state; for a group of screens, display-on time."""
    drawn: Shares = field(default_factory=_by_part)
    """Energy in millijoules."""
    spans: defaultdict[tuple[Part, State], Counter[HostId]] = field(default_factory=_by_state)
    """`times` by state."""
    draws: defaultdict[tuple[Part, State], Counter[HostId]] = field(default_factory=_by_state)
    """`drawn` by state; without screens."""
    classes: dict[HostId, DeviceClass] = field(default_factory=dict)
    otherwise: set[HostId] = field(default_factory=set)
    """Machines with an energy that is not from a model of their class."""
    measured: Counter[HostId] = field(default_factory=Counter)
    """Millijoules by a measuring method."""
    derived: Counter[HostId] = field(default_factory=Counter)
    """Milliseconds with derived energy, without screens."""
    runs: defaultdict[tuple[bool, int], Counter[HostId]] = field(default_factory=lambda: defaultdict(Counter))
    """(open hours or not, number of idle-run edges exceeded) → idle milliseconds."""
    nights: Counter[HostId] = field(default_factory=Counter)
    apportioned: bool = False

    @property
    def hosts(self) -> frozenset[HostId]:
        """Machines that contributed a known state or an energy."""
        return frozenset(
            host_id
            for table in (self.times, self.drawn)
            for machines in table.values()
            for host_id, value in machines.items()
            if value > 0
        )

    @property
    def enrolled_milliseconds(self) -> int:
        """Enrolled milliseconds of all machines."""
        return self.enrolled.total()

    def add_state(self, host_id: HostId, key: tuple[Band, State], more: StateSums) -> None:
        """Add a machine's time in one band and state."""
        band, state = key
        self.states[key] = self.states.get(key, StateSums()) + more
        if state is State.UNKNOWN:
            return
        self.times[PART_OF[key]][host_id] += more.milliseconds
        self.spans[PART_OF[key], state][host_id] += more.milliseconds
        if state is State.ON_IDLE:
            edges = [more.milliseconds, *(value or 0 for value in more.values[1:]), 0]
            for passed, beyond in enumerate(edges[:-1]):
                self.runs[band is Band.OPEN, passed][host_id] += max(0, beyond - edges[passed + 1])

    def add_energy(self, host_id: HostId, key: EnergyKey, more: EnergySums) -> None:
        """Add a machine's energy in one class, method, band and state."""
        device_class, method, band, state = key
        self.energies[key] = self.energies.get(key, EnergySums()) + more
        of_screens = device_class is EnergyClass.MONITOR
        part = Part.OTHER if of_screens else PART_OF[band, state]
        self.drawn[part][host_id] += more.energy_millijoules
        if method in MEASURED:
            self.measured[host_id] += more.energy_millijoules
        if isinstance(device_class, DeviceClass):
            self.derived[host_id] += more.milliseconds
            self.draws[part, state][host_id] += more.energy_millijoules
            self.classes[host_id] = device_class
            if method not in BY_CLASS and more.energy_millijoules:
                self.otherwise.add(host_id)

    def add(self, other: Tally) -> None:
        """Add all sums of another tally."""
        self.apportioned |= other.apportioned
        for state_key, state_sums in other.states.items():
            self.states[state_key] = self.states.get(state_key, StateSums()) + state_sums
        for energy_key, energy_sums in other.energies.items():
            self.energies[energy_key] = self.energies.get(energy_key, EnergySums()) + energy_sums
        for part, machines in other.times.items():
            self.times[part].update(machines)
        for part, machines in other.drawn.items():
            self.drawn[part].update(machines)
        for span, machines in other.spans.items():
            self.spans[span].update(machines)
        for span, machines in other.draws.items():
            self.draws[span].update(machines)
        self.classes |= other.classes
        self.otherwise |= other.otherwise
        for run, machines in other.runs.items():
            self.runs[run].update(machines)
        for one, more in (
            (self.enrolled, other.enrolled),
            (self.measured, other.measured),
            (self.derived, other.derived),
            (self.nights, other.nights),
        ):
            one.update(more)

    # --- inputs of the disclosure rule

    def cell(self, key: K, rates: Rates = ()) -> DisclosureCell[K]:
        """Return the machines, time and energy of the group as one cell for the disclosure rule.

        `rates`: watts by state of its family. For each rate, the cell also holds the machines whose energy is
        not time × that rate.
        """
        on = (_of(self.times, ON), _of(self.drawn, ON | Part.OTHER))
        known = rates_in(known_rates(spent_of(self), rates), _ALL)
        left = (away(known, place) for place in range(len(rates)))
        return DisclosureCell(
            key, _of(self.times, _ALL), on, (_of(self.times, REST), _of(self.drawn, REST), *left)
        )

    def parts(self, key: K, level: Level, rates: Rates = ()) -> DisclosureCell[K]:
        """Return the same cell with the times and energies of its parts,
        as finely as `level` divides them.
        """
        whole = self.cell(key, rates)
        times = tuple(_of(self.times, part) for part in level.parts)
        on = tuple(_of(self.drawn, part) for part in (*level.parts, Part.OTHER) if not part & REST)
        rest = tuple(_of(self.drawn, part) for part in level.parts if part & REST)
        return DisclosureCell(
            key,
            whole.contributions,
            (*whole.beside, *times, *on),
            (*whole.constant, *rest),
            self._away(level, rates),
            unknown(known_rates(spent_of(self), rates)),
        )

    def _away(self, level: Level, rates: Rates) -> tuple[tuple[dict[HostId, int], ...], ...]:
        """Return, for each part and each rate of its states,
        the machines whose energy is not time × the rate.
        """
        known = known_rates(spent_of(self), rates)
        return tuple(
            tuple(
                away(of_part, place)
                for place, rate in enumerate(rates)
                if part & (REST if rate.state in REST_STATES else ON)
            )
            for part in level.parts
            for of_part in [rates_in(known, part)]
        )

    def may_publish_energies(self, level: Level, rates: Rates, k: int) -> bool:
        """Return whether the parts' energies may be published with their times.

        They may not where subtracting modelled energy leaves fewer than k machines.
        """
        return all(is_nobodys_or_enough(one, k) for part in self._away(level, rates) for one in part)

    def fewest_left(self, level: Level, rates: Rates) -> int | None:
        """Return the fewest machines that weights of its energy and of the times of parts leave.

        None where the energy follows from the time: weights of it reveal nothing more.
        """
        known = rates_in(known_rates(spent_of(self), rates), _ALL)
        if any(not away(known, place) for place in range(len(rates))):
            return None
        return always_left(self._away(level, rates))

    def fewest_at_one_rate(self, part: Part, rates: Rates) -> int:
        """Return the fewest machines with something in a part that is not at one and the same rate."""
        known = rates_in(known_rates(spent_of(self), rates), part)
        return min((count(away(known, place)) for place in range(len(rates))), default=len(known))

    def level(self, k: int) -> Level:
        """Return the finest level that the disclosure rule allows."""
        rates = rates_of([self])
        safe = (level for level in LEVELS if self.parts(None, level, rates).is_safe(k))
        return next(safe, Level((), NO_PARTS))

    def masks(self, table: Shares) -> Counter[Part]:
        """Count machines by the set of parts that they have in `times` or in `drawn`."""
        found: dict[HostId, Part] = {}
        for part, machines in table.items():
            for host_id, value in machines.items():
                if value > 0:
                    found[host_id] = found.get(host_id, Part(0)) | part
        return Counter(found.values())

    def unsafe_details(self, k: int) -> frozenset[Detail]:
        """Return the details, beyond those of a level, with few machines in them or in their complement."""
        drawn = _of(self.drawn, _ALL)
        modelled = {host_id: energy - self.measured[host_id] for host_id, energy in drawn.items()}
        safe = {
            Detail.METHODS: all(is_nobodys_or_safe(one, k) for one in (self.measured, modelled)),
            Detail.RUNS: all(is_nobodys_or_safe(one, k) for one in self.runs.values()),
            Detail.NIGHTS: is_nobodys_or_safe(self.nights, k),
            Detail.COVERAGE: self.may_publish_coverage(k),
            Detail.DERIVED: self.may_publish_coverage(k) and self.may_publish_derived(k),
        }
        return frozenset(detail for detail, is_told in safe.items() if not is_told)

    def may_publish_coverage(self, k: int) -> bool:
        """Return whether coverage may be published: enrolled time less known time isolates no few machines.

        Fewer than k machines that never reported also prevent it.
        """
        silent, never = self._silent()
        return _is_silence_of_many(silent | never, k) and is_nobodys_or_enough(never, k)

    def may_publish_silence(self, machines: Collection[HostId], k: int) -> bool:
        """Return whether enrolled time less known time isolates no few of these machines."""
        return _is_silence_of_many(self.silence_of(machines), k)

    def silence_of(self, machines: Collection[HostId]) -> dict[HostId, int]:
        """Return the silent milliseconds of each of these machines that was enrolled."""
        heard, never = self._silent()
        return {one: time for one, time in (heard | never).items() if one in machines}

    def _silent(self) -> tuple[dict[HostId, int], dict[HostId, int]]:
        """Return the silent milliseconds of machines that reported, and of machines that never did."""
        known = _of(self.times, KNOWN)
        silent = {host_id: max(0, time - known.get(host_id, 0)) for host_id, time in self.enrolled.items()}
        never = {host_id: time for host_id, time in silent.items() if not known.get(host_id, 0)}
        return {host_id: time for host_id, time in silent.items() if host_id not in never}, never

    def may_publish_derived(self, k: int) -> bool:
        """Return whether known time less time with energy isolates no few machines.

        Either no machine lacks energy, or k machines have energy for a part of their time. Up to a second per
        machine is rounding of shared weeks.
        """
        known = _of(self.times, KNOWN)
        without = {
            host_id: missing
            for host_id, time in known.items()
            if abs(missing := time - self.derived[host_id]) > MILLISECONDS_PER_SECOND
        }
        partly = {host_id: abs(missing) for host_id, missing in without.items() if self.derived[host_id] > 0}
        every = {host_id: abs(missing) for host_id, missing in without.items()}
        return not without or (is_nobodys_or_safe(every, k) and count(partly) >= k)

    # --- result

    def freeze(
        self, population: Population | None, withheld: frozenset[Detail], *, exact: bool = True
    ) -> GroupSums:
        """Return the sums as a value.

        `exact`: no state, band or method replaces another. Otherwise the value cannot reveal what is
        withheld.
        """
        server = population is Population.SERVER
        dated = "evenings" if population is Population.CLASSROOM else "dates"
        return GroupSums(
            len(self.hosts),
            0 if Detail.COVERAGE in withheld else self.enrolled_milliseconds,
            self.states if exact else self._coarsen_states(withheld),
            self.energies if exact else self._coarsen_energies(withheld),
            None if server or Detail.NIGHTS in withheld else self.nights.total(),
            None if server else dated,
            self.apportioned,
            withheld,
        )

    def _coarsen_states(self, withheld: frozenset[Detail]) -> Mapping[tuple[Band, State], StateSums]:
        found: dict[tuple[Band, State], StateSums] = {}
        for (band, state), sums in self.states.items():
            if state is not State.UNKNOWN:
                key = coarsen_band(band, withheld), coarsen_state(state, withheld)
                coarse = StateSums(sums.milliseconds) if Detail.RUNS in withheld else sums
                found[key] = found.get(key, StateSums()) + coarse
        return found

    def _coarsen_energies(self, withheld: frozenset[Detail]) -> Mapping[EnergyKey, EnergySums]:
        found: dict[EnergyKey, EnergySums] = {}
        for (device_class, method, band, state), sums in self.energies.items():
            named = Method.LOAD_MODELLED if Detail.METHODS in withheld else method
            band, state = coarsen_band(band, withheld), coarsen_state(state, withheld)
            if Detail.ENERGIES in withheld:
                band, state = Band.OPEN, State.OFF
            key = device_class, named, band, state
            time = 0 if Detail.DERIVED in withheld else sums.milliseconds
            coarse = EnergySums(time, sums.energy_millijoules, sums.uncertainty_millijoules)
            found[key] = found.get(key, EnergySums()) + coarse
        return found


def coarsen_band(band: Band, withheld: frozenset[Detail]) -> Band:
    """Return the band under which a band is published."""
    return Band.OPEN if band is Band.OPEN or Detail.OUTSIDE in withheld else Band.CLOSED


def coarsen_state(state: State, withheld: frozenset[Detail]) -> State:
    """Return the state under which a state is published."""
    if Detail.USE in withheld:
        return State.OFF
    if state in REST_STATES:
        return State.OFF
    return State.ON_ACTIVE if state in ON_STATES and Detail.IDLE in withheld else state


def lacked_by_all(silent: Mapping[HostId, int]) -> int:
    """Return the silent milliseconds that all machines share, which a reader may know and subtract.

    They are of a week that two months share, before their enrolment, or lost for all of them. Where no two
    machines lack the same, it is a day at most.
    """
    least = min(silent.values(), default=0)
    alike = sum(time - least <= MILLISECONDS_PER_SECOND for time in silent.values())
    return least if alike > 1 else min(least, MILLISECONDS_PER_DAY)


def _is_silence_of_many(silent: Mapping[HostId, int], k: int) -> bool:
    """Return whether a sum of silent milliseconds isolates no few machines, nor what all lack apart."""
    for shared in (0, lacked_by_all(silent)):
        beyond = {
            one: time - shared for one, time in silent.items() if time - shared > MILLISECONDS_PER_SECOND
        }
        longest = max(beyond.values(), default=0)
        if not is_nobodys_or_safe(
            {one: time for one, time in beyond.items() if time * _LITTLE_SILENCE >= longest}, k
        ):
            return False
    return True


def _of(table: Shares, parts: Part) -> Counter[HostId]:
    """Sum each machine's values over some parts."""
    found: Counter[HostId] = Counter()
    for part, machines in table.items():
        if part & parts:
            found.update(machines)
    return found


def _cells(groups: Mapping[GroupKey, Tally]) -> list[DisclosureCell[GroupKey]]:
    heard = {key: tally for key, tally in groups.items() if tally.hosts}
    rates = rates_of(heard.values())
    return [tally.cell(key, rates) for key, tally in heard.items()]


def merge_small_groups(
    groups: Mapping[GroupKey, Tally], k: int
) -> tuple[tuple[Group, ...], tuple[GroupKey, ...]]:
    """Return (groups that may be published, families withheld).

    A group with fewer than k machines in its time or energy, or with one dominant machine, merges into
    `autres`. Its smallest siblings join it until that is safe. A family without a safe merge is withheld
    whole, from the totals too. Each group has its parts as finely as the rule allows. A group without
    contribution is a row where k of its machines were enrolled. With k = 1 everything is returned: the caller
    applies the rule.
    """
    rows, withheld = merge_families(groups, k, _cells, sum_tallies)
    shown = [_publish_group(key, tally, k) for key, tally in rows]
    shown += [
        _publish_group(key, tally, k)
        for key, tally in groups.items()
        if not _is_free(key, k) and not tally.hosts and tally.enrolled and tally.may_publish_coverage(k)
    ]
    return tuple(shown), tuple(withheld)


def _is_free(key: GroupKey, k: int) -> bool:
    return k == 1 or key.population in EXEMPT


def _publish_group(key: GroupKey, tally: Tally, k: int) -> Group:
    if _is_free(key, k):
        return Group(key, tally.freeze(key.population, frozenset()))
    level = tally.level(k)
    withheld = level.withheld | tally.unsafe_details(k)
    if level.parts and not tally.may_publish_energies(level, rates_of([tally]), k):
        withheld |= {Detail.ENERGIES}
    return Group(key, tally.freeze(key.population, withheld, exact=False))


def sum_tallies(tallies: Iterable[Tally]) -> Tally:
    """Sum tallies into one."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole
