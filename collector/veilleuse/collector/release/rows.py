# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the rows of the fleet's energy in a released month and their measured parts, and encodes them.

docs/methodology.md §6, *Released months*.
They are words and integers. Energies are millijoules, times milliseconds, uncertainties parts per million of
a row's energy (k = 1, rounded up).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final, NamedTuple, TypeAlias

from veilleuse.collector.account.row import RoomParts
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.fleet.census import at_default_context
from veilleuse.collector.fleet.estimate import Representativeness
from veilleuse.collector.fleet.observations import MONITOR
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.publications import FigureFormat, PublicationKind
from veilleuse.collector.model.query import GroupKey, Query, is_within
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import Population, Word

MILLION: Final = 1_000_000


def family_of(key: GroupKey) -> GroupKey:
    """Return the family whose cells may merge: one zone and population, in any month and power context."""
    return GroupKey(zone=key.zone, population=key.population, memo=key.memo)


def is_ruled(key: GroupKey) -> bool:
    """Return whether a place and class is under the rule of disclosure: not servers and other devices."""
    return key.population is not None and key.population not in EXEMPT


class Source(Word):
    """Origin of the mean power of a row's unobserved time."""

    OWN = "own"
    """The published cell of its entity and class."""
    BRANCH = "branch"
    """A published cell that it shares with other rows."""
    CLASS = "class"
    """All published cells of its class."""
    DEFAULT = "default"
    """The class default: nothing of its class is published."""
    DECLARED = "declared"
    """Likewise, at a power that an inventory declared."""


DEFAULTS: Final = (Source.DEFAULT, Source.DECLARED)


class HomePart(NamedTuple):
    """Declared share of a row's energy and time at home."""

    share_ppm: int
    declared_by: str
    """Entity whose telework days it uses."""


class MeasuredParts(NamedTuple):
    """Details of a row without personal users, which no rule of disclosure hides."""

    methods: Mapping[Method, int]
    """Known energy by method, mJ."""
    imputed_millijoules: int
    """Part of the extrapolated energy: of a machine's own unobserved time."""
    derived_milliseconds: int
    representativeness: str
    """One of fleet.estimate.Representativeness."""
    apportioned: bool
    room: RoomParts | None = None


@dataclass(frozen=True, slots=True)
class FleetRow:
    """Energy of the devices of one place and class in one month."""

    key: GroupKey
    """Place and class, over any period; `autres` for a published cell of places that nobody listed."""
    source: Source
    mean_entity: str
    """Entity of the published cell whose mean was used; empty for a class mean and a default."""
    mean_class: str
    """Device class of the published cells whose mean was used; empty for a default."""
    hosts: int
    """Measured machines. Those of a cell that several rows share are divided likewise."""
    machines: int
    """Machines in service."""
    fleet_milliseconds: int
    """Time in service; of screens: that of their PCs."""
    known_milliseconds: int
    """Published time. A cell that several rows share is divided in proportion to their time in service."""
    known_millijoules: int
    extrapolated_millijoules: int
    default_millijoules: int
    """Part of the extrapolated energy at the class default."""
    weak_millijoules: int
    """Part of its energy that stands on no sample of its month."""
    share_ppm: int
    """Its share of the time in service of all rows that share its cell; 1,000,000 where none does."""
    u_own_ppm: int
    """Sampling error of this row alone. All rows of a cell together have none: their sum is published."""
    u_shared_ppm: int
    """Sampling error that it shares with all rows of its pool."""
    u_model_ppm: int
    """Error of models and meters, which all rows of a class share."""
    home: HomePart | None = None
    measured: MeasuredParts | None = None
    """None under the rule of disclosure."""
    cell: GroupKey | None = None
    """Published cell of its known time, where that is not its alone."""
    site: str = ""
    """Site of all devices of its entity; blank where they are at several, or it is not known."""

    @property
    def energy_millijoules(self) -> int:
        """Known and extrapolated energy."""
        return self.known_millijoules + self.extrapolated_millijoules

    @property
    def declared_millijoules(self) -> int:
        """Part of its energy that a declared power gives."""
        return self.default_millijoules if self.source is Source.DECLARED else 0

    @property
    def representativeness(self) -> Representativeness:
        """How far measured machines represent the others, where the roll-out was random."""
        if not self.extrapolated_millijoules:
            return Representativeness.CENSUS
        if self.source in (Source.OWN, Source.BRANCH):
            return Representativeness.DEMONSTRATED
        return Representativeness.NOT_DEMONSTRATED

    def pcs_in(self, part: Slice) -> int:
        """Return the PCs in service in a month; of screens, as many as have the time of theirs."""
        whole = self.fleet_milliseconds // ((part.end - part.first).days * MILLISECONDS_PER_DAY)
        return max(1, whole) if self.key.device_class == MONITOR else self.machines

    @property
    def pool(self) -> tuple[object, ...]:
        """Rows of one pool have one mean, so that their shared errors add up linearly."""
        if self.source in DEFAULTS:
            return (self.key.device_class,)
        return family_of(self.key), self.mean_entity, self.mean_class


FleetMonth: TypeAlias = tuple[FleetRow, ...]
"""Rows of one month."""


OF_TOTAL: Final = GroupKey()
"""Key of the total among groups."""


def is_inside(key: GroupKey, entities: Collection[str]) -> bool:
    """Return whether all machines of a row are of these entities or below; True without any."""
    return not entities or (bool(key.path) and is_within(key.entity, entities))


def split_at_home(row: FleetRow) -> Iterator[FleetRow]:
    """Yield the parts of a row on site and at home; the errors of both are those of the whole."""
    if row.home is None:
        yield row
        return
    values = {
        name: getattr(row, name)
        for name in (
            "fleet_milliseconds",
            "known_milliseconds",
            "known_millijoules",
            "extrapolated_millijoules",
            "default_millijoules",
            "weak_millijoules",
        )
    }
    at_home = {name: value * row.home.share_ppm // MILLION for name, value in values.items()}
    if row.home.share_ppm < MILLION:
        yield replace(row, **{name: value - at_home[name] for name, value in values.items()})
    yield replace(row, key=row.key._replace(power_context=PowerContext.HOME), **at_home)


def observed_rows(
    rows: Iterable[tuple[GroupKey, FleetRow]], query: Query
) -> tuple[list[tuple[GroupKey, FleetRow]], set[GroupKey]]:
    """Return the measured parts of rows, each with the key to group it by, and the groups that lack a part.

    Nothing published divides a cell among its rows. So they are grouped by the cell's key, unless all of them
    are in one group of the query. A cell that is partly outside its entities is left out.
    """
    by_cell: defaultdict[GroupKey | None, list[FleetRow]] = defaultdict(list)
    for _, row in rows:
        if row.known_milliseconds or row.known_millijoules:
            by_cell[row.cell].append(row)
    found = [(row.key, _observed(row)) for row in by_cell.pop(None, ())]
    cut = set[GroupKey]()
    for cell, inside in by_cell.items():
        assert cell is not None
        groups = {query.group(row.key) for row in inside}
        if not is_inside(cell, query.entities):
            cut |= {*groups, OF_TOTAL}
            continue
        contexts = {row.key.power_context for row in inside}
        context = contexts.pop() if len(contexts) == 1 else None
        key = at_default_context(cell._replace(power_context=context))
        if len(groups) > 1:
            cut |= groups
        # Models err over the whole cell, in every grouping.
        found += [(key if len(groups) > 1 else row.key, _observed(replace(row, key=key))) for row in inside]
    return found, cut


def _observed(row: FleetRow) -> FleetRow:
    """Return a row without its extrapolated energy. A class default has no part in the error of models."""
    error = row.u_model_ppm * row.energy_millijoules
    modelled = row.energy_millijoules - row.default_millijoules
    return replace(
        row,
        extrapolated_millijoules=0,
        default_millijoules=0,
        weak_millijoules=0,
        u_own_ppm=0,
        u_shared_ppm=0,
        u_model_ppm=-(-error // (modelled or 1)),
        measured=None if row.measured is None else row.measured._replace(imputed_millijoules=0),
    )


_WORDS: Final = 9
"""Number of words of a row; the others are integers."""
_LENGTH: Final = 25
"""Length of a row without the cell that it shares."""


def encode_fleet(rows: FleetMonth) -> dict[str, Any]:
    """Encode the rows for JSON, with the site of each entity that is at one."""
    sites = {row.key.entity: row.site for row in rows if row.site}
    return {"rows": [_encode(row) for row in rows], **({"sites": sites} if sites else {})}


def _encode(row: FleetRow) -> list[Any]:
    key, measured = row.key, row.measured
    return [
        key.zone,
        key.population,
        key.entity,
        key.device_class,
        key.power_context,
        row.source.value,
        row.mean_entity,
        row.mean_class,
        row.home.declared_by if row.home else None,
        row.home.share_ppm if row.home else 0,
        int(key.memo),
        int(key.autres),
        row.hosts,
        row.machines,
        row.fleet_milliseconds,
        row.known_milliseconds,
        row.known_millijoules,
        row.extrapolated_millijoules,
        row.default_millijoules,
        row.weak_millijoules,
        row.share_ppm,
        row.u_own_ppm,
        row.u_shared_ppm,
        row.u_model_ppm,
        None if measured is None else _encode_measured(measured),
        *([[row.cell.entity, row.cell.device_class, int(row.cell.autres)]] if row.cell else ()),
    ]


def _encode_measured(measured: MeasuredParts) -> list[Any]:
    room = measured.room
    methods = {method.value: energy for method, energy in measured.methods.items()}
    return [methods, *measured[1:-1], None if room is None else _encode_room(room)]


def _encode_room(room: RoomParts) -> list[Any]:
    return [
        room.it_millijoules,
        room.ups_loss_millijoules,
        room.overhead_millijoules,
        room.overhead,
        room.pue_ppm,
        room.top_down_millijoules,
    ]


def decode_fleet(content: Mapping[str, Any], first: date, end: date) -> FleetMonth:
    """Decode what `encode_fleet` returned. Raises ValueError, KeyError, TypeError."""
    sites = content.get("sites", {})
    rows = (_decode(row, first, end) for row in content["rows"])
    return tuple(at_site(row, sites) for row in rows)


def at_site(row: FleetRow, sites: Mapping[str, str]) -> FleetRow:
    """Return a row under the rule at the site of its entity. The place of merged groups is none."""
    is_listed = row.measured is None and not row.key.autres
    site = sites.get(row.key.entity or "", "") if is_listed else ""
    return replace(row, site=site) if site else row


def _decode(row: list[Any], first: date, end: date) -> FleetRow:
    zone, population, entity, device_class, context, source, mean_entity, mean_class, declared_by = row[
        :_WORDS
    ]
    home_ppm, memo, autres, *values, measured = row[_WORDS:_LENGTH]
    key = GroupKey(
        first,
        end,
        zone,
        _POPULATIONS[population],
        bool(memo),
        entity,
        None,
        device_class,
        bool(autres),
        _CONTEXTS[context],
    )
    found = FleetRow(key, _SOURCES[source], mean_entity, mean_class, *values)
    if len(row) > _LENGTH:
        cell_entity, cell_class, is_merged = row[_LENGTH]
        cell = key._replace(
            entity=cell_entity, device_class=cell_class, autres=bool(is_merged), power_context=None
        )
        found = replace(found, cell=cell)
    if not home_ppm and measured is None:
        return found
    return replace(
        found,
        home=HomePart(home_ppm, declared_by) if home_ppm else None,
        measured=None if measured is None else _decode_measured(measured),
    )


def _decode_measured(measured: list[Any]) -> MeasuredParts:
    methods, imputed, derived, representativeness, apportioned, room = measured
    return MeasuredParts(
        {Method(word): energy for word, energy in methods.items()},
        imputed,
        derived,
        representativeness,
        apportioned,
        None if room is None else RoomParts(*room),
    )


_POPULATIONS: Final[dict[str | None, Population | None]] = {
    None: None,
    **{one.value: one for one in Population},
}
_CONTEXTS: Final[dict[str | None, PowerContext | None]] = {
    None: None,
    **{one.value: one for one in PowerContext},
}
_SOURCES: Final = {one.value: one for one in Source}

FLEET: Final = FigureFormat(PublicationKind.FLEET, 2, encode_fleet, decode_fleet, lambda rows: not rows)
