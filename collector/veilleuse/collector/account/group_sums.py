# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A group while it grows, with what each machine puts into its figures: the rule of disclosure needs to know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypeVar

from veilleuse.collector.account.parts import (
    IDLE,
    KNOWN,
    LEVELS,
    NO_PARTS,
    ON,
    PART_OF,
    REST,
    Level,
    Part,
)
from veilleuse.collector.account.rates import BY_CLASS, Rates, away, rates_of, spent_of, unknown
from veilleuse.collector.disclosure import EXEMPT, DisclosureCell, count, is_nobodys_or_safe, publish
from veilleuse.collector.model.figures import (
    AUTRES,
    ON_STATES,
    REST_STATES,
    Detail,
    EnergyClass,
    EnergyKey,
    EnergySums,
    Group,
    GroupKey,
    GroupSums,
    StateSums,
)
from veilleuse.collector.model.records import HostId
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

K = TypeVar("K")
Shares: TypeAlias = "defaultdict[Part, Counter[HostId]]"

_ALL: Final = KNOWN | Part.OTHER


def _by_part() -> Shares:
    return defaultdict(Counter)


def _by_state() -> defaultdict[tuple[Part, State], Counter[HostId]]:
    return defaultdict(Counter)


@dataclass(slots=True)
class Tally:
    """Sums of a group, and which machines they are of."""

    states: dict[tuple[Band, State], StateSums] = field(default_factory=dict)
    energies: dict[EnergyKey, EnergySums] = field(default_factory=dict)
    enrolled: Counter[HostId] = field(default_factory=Counter)
    """Milliseconds."""
    times: Shares = field(default_factory=_by_part)
    """Milliseconds of known state; of screens that stand apart, theirs."""
    drawn: Shares = field(default_factory=_by_part)
    """Millijoules."""
    spans: defaultdict[tuple[Part, State], Counter[HostId]] = field(default_factory=_by_state)
    """`times` by state."""
    draws: defaultdict[tuple[Part, State], Counter[HostId]] = field(default_factory=_by_state)
    """`drawn` by state; without screens."""
    classes: dict[HostId, DeviceClass] = field(default_factory=dict)
    otherwise: set[HostId] = field(default_factory=set)
    """Machines with an energy that is not a model's by class."""
    measured: Counter[HostId] = field(default_factory=Counter)
    """Millijoules by a method that measures."""
    derived: Counter[HostId] = field(default_factory=Counter)
    """Milliseconds with an energy, but of screens."""
    runs: defaultdict[tuple[bool, int], Counter[HostId]] = field(default_factory=lambda: defaultdict(Counter))
    """(whether open, how many edges of idle runs were passed) → milliseconds idle."""
    nights: Counter[HostId] = field(default_factory=Counter)
    apportioned: bool = False

    @property
    def hosts(self) -> frozenset[HostId]:
        """Machines that contributed: a known state, or an energy."""
        return frozenset(
            host_id
            for table in (self.times, self.drawn)
            for machines in table.values()
            for host_id, value in machines.items()
            if value > 0
        )

    @property
    def enrolled_milliseconds(self) -> int:
        """Of all machines."""
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
        """Add a whole tally."""
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

    # --- what the rule of disclosure asks

    def cell(self, key: K, rates: Rates = ()) -> DisclosureCell[K]:
        """Its machines, time and energy as one figure that may be told or not. `rates`: of its family; what draws otherwise than at one
        of them is what its energy less that of its time is of."""
        on = (_of(self.times, ON), _of(self.drawn, ON | Part.OTHER))
        spent = spent_of(self)
        left = (away(spent, _ALL, watts) for _, watts in rates)
        return DisclosureCell(
            key, _of(self.times, _ALL), on, (_of(self.times, REST), _of(self.drawn, REST), *left)
        )

    def parts(self, key: K, level: Level, rates: Rates = ()) -> DisclosureCell[K]:
        """The same with the times of its parts told apart, as finely as the level says, beside its energy."""
        whole = self.cell(key, rates)
        times = tuple(_of(self.times, part) for part in level.parts)
        on = tuple(_of(self.drawn, part) for part in (*level.parts, Part.OTHER) if not part & REST)
        rest = tuple(_of(self.drawn, part) for part in level.parts if part & REST)
        always = unknown(spent_of(self), rates)
        left = [one | always for one in self._away(level, rates)]
        return DisclosureCell(
            key, whole.contributions, (*whole.beside, *times, *on), (*whole.constant, *rest, *left)
        )

    def _away(self, level: Level, rates: Rates) -> list[dict[HostId, int]]:
        """Of each part and each rate of its states: the machines that its energy less the rate's is of."""
        spent = spent_of(self)
        return [
            away(spent, part, watts)
            for part in level.parts
            for state, watts in rates
            if part & (REST if state in REST_STATES else IDLE)
        ]

    def tells_energies(self, level: Level, rates: Rates, k: int) -> bool:
        """Whether the energies of its parts, told beside their times, leave no few machines when what models give is taken out."""
        return all(not one or len(one) >= k for one in self._away(level, rates))

    def cannot_be_solved(self, rates: Rates, k: int) -> bool:
        """Whether its energy tells no more of its parts than its time, or k machines draw what nobody knows: no weights of its energy then
        leave fewer, whatever is known of its parts from elsewhere."""
        spent = spent_of(self)
        return len(unknown(spent, rates)) >= k or any(not away(spent, _ALL, watts) for _, watts in rates)

    def level(self, k: int) -> Level:
        """The finest that may be told of it."""
        rates = rates_of([self])
        safe = (level for level in LEVELS if self.parts(None, level, rates).is_safe(k))
        return next(safe, Level((), NO_PARTS))

    def masks(self, table: Shares) -> Counter[Part]:
        """Which parts machines have in `times` or in `drawn` → how many machines."""
        found: dict[HostId, Part] = {}
        for part, machines in table.items():
            for host_id, value in machines.items():
                if value > 0:
                    found[host_id] = found.get(host_id, Part(0)) | part
        return Counter(found.values())

    def unsafe(self, k: int) -> frozenset[Detail]:
        """Details, beside those of a level, behind which few machines stand, or behind the rest."""
        drawn = _of(self.drawn, _ALL)
        modelled = {host_id: energy - self.measured[host_id] for host_id, energy in drawn.items()}
        safe = {
            Detail.METHODS: all(is_nobodys_or_safe(one, k) for one in (self.measured, modelled)),
            Detail.RUNS: all(is_nobodys_or_safe(one, k) for one in self.runs.values()),
            Detail.NIGHTS: is_nobodys_or_safe(self.nights, k),
            Detail.COVERAGE: self.tells_coverage(k),
            Detail.DERIVED: self.tells_coverage(k) and self._tells_derived(k),
        }
        return frozenset(detail for detail, is_told in safe.items() if not is_told)

    def tells_coverage(self, k: int) -> bool:
        """Whether enrolled time, less what is known of it, is no machine's; nor that some were never heard of."""
        silent, never = self._silent()
        return is_nobodys_or_safe(silent | never, k) and (count(never) == 0 or count(never) >= k)

    def tells_silence(self, k: int) -> bool:
        """Whether enrolled time, less what is known, of the machines that were heard of is no machine's."""
        return is_nobodys_or_safe(self._silent()[0], k)

    def _silent(self) -> tuple[dict[HostId, int], dict[HostId, int]]:
        """Milliseconds of silence of those heard of, and of those never."""
        known = _of(self.times, KNOWN)
        silent = {host_id: max(0, time - known.get(host_id, 0)) for host_id, time in self.enrolled.items()}
        never = {host_id: time for host_id, time in silent.items() if not known.get(host_id, 0)}
        return {host_id: time for host_id, time in silent.items() if host_id not in never}, never

    def _tells_derived(self, k: int) -> bool:
        """Whether known time, less what has an energy, is no machine's: nobody's, or k machines have an energy for some of their time. Up to
        a second of a machine is what rounding leaves where weeks are shared."""
        known = _of(self.times, KNOWN)
        without = {
            host_id: missing
            for host_id, time in known.items()
            if abs(missing := time - self.derived[host_id]) > MILLISECONDS_PER_SECOND
        }
        partly = {host_id: abs(missing) for host_id, missing in without.items() if self.derived[host_id] > 0}
        every = {host_id: abs(missing) for host_id, missing in without.items()}
        return not without or (is_nobodys_or_safe(every, k) and count(partly) >= k)

    # --- as a value

    def freeze(self, population: Population, withheld: frozenset[Detail], *, exact: bool = True) -> GroupSums:
        """As a value. `exact`: no state, band or method stands for another; else what is withheld cannot be told from the value either."""
        server = population is Population.SERVER
        dated = "evenings" if population is Population.CLASSROOM else "dates"
        return GroupSums(
            len(self.hosts),
            0 if Detail.COVERAGE in withheld else self.enrolled_milliseconds,
            self.states if exact else self._told_states(withheld),
            self.energies if exact else self._told_energies(withheld),
            None if server or Detail.NIGHTS in withheld else self.nights.total(),
            None if server else dated,
            self.apportioned,
            withheld,
        )

    def _told_states(self, withheld: frozenset[Detail]) -> Mapping[tuple[Band, State], StateSums]:
        found: dict[tuple[Band, State], StateSums] = {}
        for (band, state), sums in self.states.items():
            if state is not State.UNKNOWN:
                key = told_band(band, withheld), told_state(state, withheld)
                told = StateSums(sums.milliseconds) if Detail.RUNS in withheld else sums
                found[key] = found.get(key, StateSums()) + told
        return found

    def _told_energies(self, withheld: frozenset[Detail]) -> Mapping[EnergyKey, EnergySums]:
        found: dict[EnergyKey, EnergySums] = {}
        for (device_class, method, band, state), sums in self.energies.items():
            named = Method.LOAD_MODELLED if Detail.METHODS in withheld else method
            band, state = told_band(band, withheld), told_state(state, withheld)
            if Detail.ENERGIES in withheld:
                band, state = Band.OPEN, State.OFF
            key = device_class, named, band, state
            time = 0 if Detail.DERIVED in withheld else sums.milliseconds
            told = EnergySums(time, sums.energy_millijoules, sums.uncertainty_millijoules)
            found[key] = found.get(key, EnergySums()) + told
        return found


def told_band(band: Band, withheld: frozenset[Detail]) -> Band:
    """Which band stands for it."""
    return Band.OPEN if band is Band.OPEN or Detail.OUTSIDE in withheld else Band.CLOSED


def told_state(state: State, withheld: frozenset[Detail]) -> State:
    """Which state stands for it."""
    if Detail.USE in withheld:
        return State.OFF
    if state in REST_STATES:
        return State.OFF
    return State.ON_ACTIVE if state in ON_STATES and Detail.IDLE in withheld else state


def _of(table: Shares, parts: Part) -> Counter[HostId]:
    """What each machine has of these parts."""
    found: Counter[HostId] = Counter()
    for part, machines in table.items():
        if part & parts:
            found.update(machines)
    return found


Member = tuple[GroupKey, Tally]


@dataclass(frozen=True, slots=True)
class Family:
    """What may merge with each other."""

    key: GroupKey
    """Without entity, site and class; `monitor` of screens."""
    members: Mapping[GroupKey, Tally]

    def merged(self, k: int) -> list[Member] | None:
        """Those with machines, small ones merged into `autres`; None: it is never safe."""
        heard = {key: tally for key, tally in self.members.items() if tally.hosts}
        rates = rates_of(heard.values())
        level = publish([tally.cell(key, rates) for key, tally in heard.items()], k)
        if level.withheld_keys:
            return None
        found = [(cell.key, heard[cell.key]) for cell in level.kept]
        return found + ([autres([(key, heard[key]) for key in level.merged_keys])] if level.others else [])


def families(groups: Mapping[GroupKey, Tally]) -> list[Family]:
    """Of groups under the rule."""
    found: defaultdict[GroupKey, dict[GroupKey, Tally]] = defaultdict(dict)
    for key, tally in groups.items():
        found[_family(key)][key] = tally
    return [Family(key, members) for key, members in found.items()]


def fit_to_show(groups: Mapping[GroupKey, Tally], k: int) -> tuple[tuple[Group, ...], tuple[GroupKey, ...]]:
    """(groups as they may be shown, families withheld).

    A group behind whose time or energy fewer than k machines stand, or one almost alone, merges into `autres`, with the
    smallest of its siblings until that is safe; a family for which it never is, is withheld whole, from the totals too.
    Each tells as much of its parts as it may. A group nobody contributed to is a row where k of its machines were enrolled.
    With k = 1 everything is shown: the caller sees to the rule.
    """
    shown: list[Group] = []
    withheld: list[GroupKey] = []
    ruled: dict[GroupKey, Tally] = {}
    for key, tally in groups.items():
        if k == 1 or key.population in EXEMPT:
            shown.append(Group(key, tally.freeze(key.population, frozenset())))
        else:
            ruled[key] = tally
    for family in families(ruled):
        merged = family.merged(k)
        silent = [
            (key, tally)
            for key, tally in family.members.items()
            if not tally.hosts and tally.enrolled and tally.tells_coverage(k)
        ]
        if merged is None:
            withheld.append(family.key)
        shown += [_told(key, tally, k) for key, tally in (*(merged or ()), *silent)]
    return tuple(shown), tuple(withheld)


def _told(key: GroupKey, tally: Tally, k: int) -> Group:
    level = tally.level(k)
    withheld = level.withheld | tally.unsafe(k)
    if level.parts and not tally.tells_energies(level, rates_of([tally]), k):
        withheld |= {Detail.ENERGIES}
    return Group(key, tally.freeze(key.population, withheld, exact=False))


def _family(key: GroupKey) -> GroupKey:
    screens = EnergyClass.MONITOR.value
    device_class = screens if key.device_class == screens else None
    return replace(key, entity=None, site=None, device_class=device_class)


def autres(hidden: Sequence[Member]) -> Member:
    """The one group of those hidden: `autres` in every dimension that was asked for, blank in the others; screens stay screens."""
    key = hidden[0][0]
    screens = key.device_class == EnergyClass.MONITOR.value
    named = replace(
        key,
        entity=key.entity and AUTRES,
        site=key.site and AUTRES,
        device_class=key.device_class if screens else key.device_class and AUTRES,
        autres=True,
    )
    return named, together(tally for _, tally in hidden)


def together(tallies: Iterable[Tally]) -> Tally:
    """All of them as one."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole
