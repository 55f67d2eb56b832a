# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines what a report or reader asks for, and the key of a group that answers it. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR, PowerContext
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import DeviceClass, Population, Word


class YearRange(NamedTuple):
    """From one civil year to another, both included."""

    first: int
    last: int

    def holds(self, year: int) -> bool:
        """Return whether a year is in the range."""
        return self.first <= year <= self.last


# Years that commands, files and the API accept: one outside is a typing error.
ALL_OVER: Final = 2**63 - 1
"""`now_unix_milliseconds` of a question about a period that is over for every time zone."""
PERIOD_YEARS: Final = YearRange(2000, 2200)
"""Years of a period, of a calendar, and those that are closed."""
API_YEARS: Final = YearRange(2000, 2099)
"""Years of a question to the API, whose dates begin with 20."""
DATED_YEARS: Final = YearRange(2000, 2999)
"""Years from which a meter or a share holds, and years of readings:
an end that is open may be written as a far one.
"""
ENTERED_YEARS: Final = YearRange(1990, 2099)
"""Years of purchases, and of lines of the REEN sheet."""
CONVERTED_YEARS: Final = YearRange(1990, 2200)
"""Years of an energy to convert."""


def check_day(option: str, day: date) -> date:
    """Return the day. Raises UsageError outside the allowed years."""
    if not PERIOD_YEARS.holds(day.year):
        raise UsageError(
            f"{option} {day} must be between the years {PERIOD_YEARS.first} and {PERIOD_YEARS.last}"
        )
    return day


def check_period(first: date, end: date) -> None:
    """Check a period, `end` exclusive. Raises UsageError for an empty period or one outside the allowed
    years.
    """
    if first >= end:
        raise UsageError(f"--from {first} must be before --to {end}, which is exclusive")
    check_day("--from", first)
    check_day("--to", end)


NAMED: Final = ("entity", "site", "device_class")
"""Dimensions that divide rows only where requested: fields of a GroupKey that are else None."""
DIMENSIONS: Final = (
    "entity",
    "site",
    "population",
    "device_class",
    "year",
    "month",
    "perimeter",
    "power_context",
)
"""Dimensions of --group-by.

Year, zone, population and power context always divide. A row has one factor, one item of the bilan carbone
and one disclosure rule. A perimeter of released months has one row of all its populations.
"""
DEFAULT_DIMENSIONS: Final = ("entity", "device_class")
MAX_LEVEL: Final = 64
"""Most parts of an entity's path that a question may name."""


AUTRES: Final = "autres"
"""Name of the row of the groups too small to publish."""


def is_within(entity: str | None, entities: Collection[str]) -> bool:
    """Return whether an entity is one of these or below one; True without any."""
    if not entities:
        return True
    return entity is not None and any(
        entity == one or entity.startswith(one + ENTITY_SEPARATOR) for one in entities
    )


def cut_entity(entity: str, level: int | None) -> str:
    """Return the first parts of an entity's path; all of it without a level."""
    return entity if level is None else ENTITY_SEPARATOR.join(entity.split(ENTITY_SEPARATOR)[:level])


class GroupKey(NamedTuple):
    """Key of a group of machines and of its row. A dimension that was not requested, or does not apply, is
    None.
    """

    period_from: date = date.min
    """date.min, and date.max below, where the period is that of all rows together."""
    period_to: date = date.max
    """Exclusive."""
    zone: str = ""
    """Grid zone: a row has one factor. Blank for several zones together, or where no factor applies."""
    population: Population | None = None
    memo: bool = False
    """Virtual machines: their host has the energy, so they are in no total."""
    entity: str | None = None
    site: str | None = None
    device_class: str | None = None
    autres: bool = False
    """True for a row of groups too small to publish. `entity` is then the branch below which they are, or
    AUTRES; an entity may have that name itself.
    """
    power_context: PowerContext | None = None
    perimeter: str | None = None
    """None too for a merged row of several perimeters."""

    @property
    def family(self) -> GroupKey:
        """Key without the requested dimensions: groups of one family may merge with each other."""
        return self.coarsen(())

    @property
    def order(self) -> tuple[date, str, str, str, str, str, str, str, bool, bool, date]:
        """Sort key of a row."""
        words = (
            self.perimeter,
            self.entity,
            self.site,
            self.population,
            self.device_class,
            self.zone,
            self.power_context,
        )
        named = tuple(str(word or "") for word in words)
        return (self.period_from, *named, self.memo, self.autres, self.period_to)  # type: ignore[return-value]

    def coarsen(self, dimensions: Collection[str], level: int | None = None) -> GroupKey:
        """Return the key without the dimensions that are not requested.

        `level`: number of parts of the entity's path that stay; None: all. Merged groups of one class are a
        part of the row of that class, and those of one branch a part of its row.
        """
        blank: dict[str, None] = {name: None for name in NAMED if name not in dimensions}
        perimeter = self.perimeter if "perimeter" in dimensions else None
        entity = self.entity and cut_entity(self.entity, level)
        key = self._replace(**{"entity": entity, **blank, "perimeter": perimeter})  # type: ignore[arg-type]
        is_in_branch = level is not None and self.entity != AUTRES and len(self.path) >= level
        is_merged = (
            (key.entity is not None and not is_in_branch)
            or key.site is not None
            or key.device_class == AUTRES
            or ("perimeter" in dimensions and perimeter is None)
        )
        return key._replace(autres=self.autres and is_merged)

    def over(self, first: date = date.min, end: date = date.max) -> GroupKey:
        """Return the key over another period; by default over any."""
        return self._replace(period_from=first, period_to=end)

    @property
    def merged(self) -> GroupKey:
        """Key of the groups too small to publish: `autres` in every requested dimension."""
        named = {name: AUTRES for name in NAMED if getattr(self, name) is not None}
        return self._replace(**named, autres=True)  # type: ignore[arg-type]

    @property
    def path(self) -> tuple[str, ...]:
        """Parts of its entity; none for the row of the groups of all entities."""
        is_of_all = self.entity is None or (self.autres and self.entity == AUTRES)
        return () if is_of_all else tuple((self.entity or "").split(ENTITY_SEPARATOR))

    def merged_at(self, path: Sequence[str], device_class: str | None) -> GroupKey:
        """Return the key of the merged groups of one class, or of AUTRES, below a branch of the entities."""
        entity = ENTITY_SEPARATOR.join(path) or AUTRES
        return self._replace(entity=entity, device_class=device_class, autres=True)

    @property
    def merged_above(self) -> Iterator[GroupKey]:
        """Keys of the merged groups in which it may be, the nearest branch and its own class first."""
        path = self.path
        for depth in range(len(path), -1, -1):
            yield self.merged_at(path[:depth], self.device_class)
            yield self.merged_at(path[:depth], AUTRES)

    @property
    def level(self) -> str:
        """Kind of row: memo, autres or row."""
        return "memo" if self.memo else AUTRES if self.autres else "row"

    @property
    def columns(self) -> dict[str, str | None]:
        """Column → its word; None where it does not apply."""
        return {
            "period_from": self.period_from.isoformat(),
            "period_to": self.period_to.isoformat(),
            "entity": self.entity,
            "site": self.site,
            "zone": self.zone or None,
            "population": self.population and self.population.value,
            "device_class": self.device_class,
            "power_context": self.power_context and self.power_context.value,
            "perimeter": self.perimeter,
        }


def key_of_host(
    host: Host, site: Site, first: date, end: date, power_context: PowerContext | None = None
) -> GroupKey:
    """Return the key of a machine at the place of its enrolment, with all dimensions."""
    device_class = host.facts.device_class
    return GroupKey(
        first,
        end,
        site.zone,
        host.population,
        device_class is DeviceClass.VIRTUAL_MACHINE,
        host.org_entity,
        host.site,
        device_class.value,
        power_context=power_context,
    )


class Basis(Word):
    """What the figures of a report are made of."""

    RELEASED = "released"
    """Released months, the same for every reader; where they cannot answer, UNRELEASED."""
    UNRELEASED = "unreleased"
    """Machines' present data, for administrators: any period and place."""
    OBSERVED = "observed"
    """The measured part of released months: nothing is extrapolated."""


OTHER: Final = "other"
"""Perimeter of devices that no rule fits."""
SEVERAL: Final = "several"
"""Row of groups that are merged from several perimeters, in a table of perimeters."""
TOTAL: Final = "total"
"""Row of the whole fleet, likewise."""
_CRITERIA: Final = ("perimeter", "entity", "population", "power_context", "device_class")


@dataclass(frozen=True, slots=True)
class PerimeterRule:
    """A rule: a device is of the perimeter when it meets every criterion that is given."""

    perimeter: str
    entity: str = ""
    """A branch of the tree: this entity and all below it."""
    population: Population | None = None
    power_context: PowerContext | None = None
    device_class: str = ""

    def fits(self, key: GroupKey) -> bool | None:
        """Return whether the devices of a key meet the criteria; None where the key does not say."""
        criteria: list[bool | None] = []
        if self.entity:
            criteria.append(_is_in_branch(key, self.entity))
        if self.population is not None:
            is_hidden = key.autres and key.population is None
            criteria.append(None if is_hidden else key.population is self.population)
        if self.power_context is not None:
            is_hidden = key.power_context is None
            criteria.append(None if is_hidden else key.power_context is self.power_context)
        if self.device_class:
            is_hidden = key.autres and key.device_class == AUTRES
            criteria.append(None if is_hidden else key.device_class == self.device_class)
        return False if False in criteria else None if None in criteria else True


def _is_in_branch(key: GroupKey, branch: str) -> bool | None:
    """Return whether a key is in a branch of the tree; None for a merged key that may be partly in it."""
    if key.autres and (key.entity == AUTRES or is_within(branch, (key.entity or "",))):
        return None
    return is_within(key.entity, (branch,))


@dataclass(frozen=True, slots=True)
class Perimeters:
    """Perimeters of a year, with their declaration. The first rule that fits decides.

    A perimeter is a part of the fleet for which a yearly figure is given. docs/reports.md.
    """

    rules: tuple[PerimeterRule, ...]
    year: int | None = None
    """First year that they hold for; None: the product's default."""
    declared_unix_milliseconds: int | None = None
    declared_by: str = ""
    why: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the perimeters in the order of their first rule, then OTHER."""
        return tuple(dict.fromkeys((*(rule.perimeter for rule in self.rules), OTHER)))

    def of(self, key: GroupKey) -> str | None:
        """Return the perimeter of the devices of a key; None where it may be one of several."""
        possible: set[str] = set()
        for rule in self.rules:
            fits = rule.fits(key)
            if fits is not False:
                possible.add(rule.perimeter)
            if fits:
                break
        else:
            possible.add(OTHER)
        return possible.pop() if len(possible) == 1 else None

    def document(self) -> list[dict[str, str]]:
        """Return the rules for JSON."""
        return [
            {name: str(value) for name in _CRITERIA if (value := getattr(rule, name))} for rule in self.rules
        ]


def rules_of(document: Iterable[Mapping[str, str]]) -> tuple[PerimeterRule, ...]:
    """Return the rules of a document. Raises KeyError or ValueError for one that is none."""
    return tuple(
        PerimeterRule(
            rule["perimeter"],
            rule.get("entity", ""),
            Population(rule["population"]) if "population" in rule else None,
            PowerContext(rule["power_context"]) if "power_context" in rule else None,
            rule.get("device_class", ""),
        )
        for rule in document
    )


DEFAULT_PERIMETERS: Final = Perimeters(
    (
        PerimeterRule("hosted", power_context=PowerContext.HOSTED),
        PerimeterRule("colleges", power_context=PowerContext.EPLE),
        PerimeterRule("colleges", population=Population.CLASSROOM),
        PerimeterRule("data_centre", population=Population.SERVER),
        PerimeterRule("agents_posts", population=Population.WORKSTATION),
    )
)
"""Perimeters until a user declares others. Never change them: years closed without a declaration hold no
rules.
"""


def perimeters_in_force(declared: Iterable[Perimeters], year: int) -> Perimeters:
    """Return the perimeters of a year: those declared last for it, else for the nearest year before it.

    `declared`: all declarations, oldest first.
    """
    found = DEFAULT_PERIMETERS
    for one in declared:
        if one.year is not None and one.year <= year and one.year >= (found.year or 0):
            found = one
    return found


@dataclass(frozen=True, slots=True)
class Query:
    """Period, grouping and rule of a report.

    Raises UsageError for an unknown dimension, or a period that is empty or out of range.
    """

    first: date
    end: date
    """Exclusive."""
    dimensions: tuple[str, ...] = DEFAULT_DIMENSIONS
    k_anonymity: int = 10
    """Fewest machines of a group that may be shown; 1: the caller applies the rule."""
    today: date = date.max
    """Day until which the fleet counts; by default all of the period is over."""
    now_unix_milliseconds: int = 0
    """Instant until which enrolled time counts."""
    entities: tuple[str, ...] = ()
    """Entities, with all below them, that the reader may see; () = all."""
    current_tree: bool = False
    """True: everything at its present place, pro forma. False: at its place of then."""
    is_compared: bool = False
    """True when the report shows the change from or to another year, with margins."""
    basis: Basis = Basis.RELEASED
    level: int | None = None
    """Number of parts of an entity's path by which rows are grouped; None: all parts."""
    perimeters: tuple[Perimeters, ...] = ()
    """All declared perimeters, oldest first: for groups of observed machines."""
    contexts: Mapping[HostId, PowerContext] = field(default_factory=dict, compare=False)
    """Power context of each machine, likewise."""
    same: Mapping[HostId, HostId] = field(default_factory=dict, compare=False)
    """Machine of a reinstalled device → its last one, as which all of them count."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.dimensions if name not in DIMENSIONS]
        if unknown:
            raise UsageError(f"cannot group by '{unknown[0]}': use {', '.join(DIMENSIONS)}")
        check_period(self.first, self.end)
        if self.level is not None and not 1 <= self.level <= MAX_LEVEL:
            raise UsageError(f"level {self.level} is no number of parts from 1 to {MAX_LEVEL}")

    def group(self, key: GroupKey) -> GroupKey:
        """Return the key of the row that holds a group, whose key has all dimensions over one year.

        An entity is never cut above the one that the reader may see: the row would hold a part of it.
        """
        if "perimeter" in self.dimensions:
            perimeters = perimeters_in_force(self.perimeters, key.period_from.year)
            key = key._replace(perimeter=perimeters.of(key))
        row = key.coarsen(self.dimensions, self.level)
        if row.entity is None or is_within(row.entity, self.entities):
            return row
        own = (one for one in self.entities if is_within(key.entity, (one,)))
        return row._replace(entity=next(own, row.entity))

    def group_observed(self, key: GroupKey) -> GroupKey:
        """Return the same of observed machines, which power context divides only where it was requested."""
        row = self.group(key)
        return row if "power_context" in self.dimensions else row._replace(power_context=None)

    @property
    def key(self) -> GroupKey:
        """Key of the whole fleet over the whole period."""
        return GroupKey(self.first, self.end)

    @property
    def civil_year(self) -> int | None:
        """Civil year that equals the period; None where none does."""
        year = self.first.year
        return year if (self.first, self.end) == (date(year, 1, 1), date(year + 1, 1, 1)) else None
