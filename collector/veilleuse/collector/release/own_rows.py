# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Adds to a report what Veilleuse itself used in its period, from the published months.

It is a memo: the energy of the agents is in that of their machines already. docs/methodology.md §12.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from enum import StrEnum
from typing import Final

from veilleuse.collector.calendars.periods import slices
from veilleuse.collector.documents.document import RELEASED_UNTIL, Document, Row, Text, Value
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.query import Basis, Query
from veilleuse.collector.ports.months import PublicationReader
from veilleuse.collector.release.own_use import OWN_GSD2, OWN_USE, AgentsUse, OwnMonth
from veilleuse.collector.release.publications import PublicationCache, publish_nothing
from veilleuse.wire.units import MILLIJOULES_PER_KWH, MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Population

TABLE: Final = "own_use"
LEVEL: Final = "own_use"
COLUMNS: Final = (
    "own_part",
    "own_months",
    "kwh_own",
    "own_cpu_hours",
    "own_received_bytes",
    "own_sent_bytes",
    "kwh_avoidable",
    "own_avoidable_ratio",
)
"""Columns of these rows that no other row has."""
NOTE: Final[Text] = {
    "fr": "Ce que Veilleuse consomme elle-même (own_use) : le temps de processeur des agents et du collecteur, par le modèle de charge, à un facteur deux "
    "près. L’énergie des agents est déjà dans celle de leurs machines : ces lignes ne sont dans aucun total. Elles sont des mois publiés où elle est connue (own_months).",
    "en": "What Veilleuse itself uses (own_use): CPU time of agents and collector through the load model, to a factor of two. The energy of the agents "
    "is in that of their machines already: these rows are in no total. They are of the published months that tell it (own_months).",
}


class OwnReason(StrEnum):
    """Why a released month does not tell what a part used. Values of the column `reason`."""

    NOT_RELEASED = "period"
    """No month of the period is released."""
    NOT_PUBLISHED = "own_not_published"
    """It was first published too late, or by a version that counted nothing."""
    NOT_COUNTED = "own_not_counted"
    """The collector did not count from its first day on."""
    NOT_REPORTED = "own_not_reported"
    """Fewer than REPORTING_PERCENT of the agents report it, or the rule of disclosure withholds it."""


class OwnPart(StrEnum):
    """Part of Veilleuse that a row is of."""

    AGENTS = "agents"
    COLLECTOR = "collector"
    WHOLE = "whole"
    """All parts together, over the months in which each is known."""


def add_own_rows(document: Document, published: PublicationReader, query: Query) -> Document:
    """Add these rows to an emissions report of released months of the whole fleet.

    Other reports, and readers of some entities, have none. Raises StoreDamaged, StoreTooNew.
    """
    if query.entities or document.head.get("basis") != Basis.RELEASED.value:
        return document
    until = str(document.head.get(RELEASED_UNTIL, query.first))
    end = min(query.end, date.fromisoformat(until))
    months = own_months(published, query.first, end, query.k_anonymity)
    rows = own_use_rows(months, query.first, query.end)
    figures = {name: document.tables[name] for name in document.tabular}
    return replace(
        document,
        columns=(*document.columns, *COLUMNS, *(("reason",) if any("reason" in row for row in rows) else ())),
        tables={**figures, TABLE: rows, **document.tables},
        tabular=(*document.tabular, TABLE),
        assumptions=(*document.assumptions, NOTE),
    )


def own_months(published: PublicationReader, first: date, end: date, k: int) -> tuple[OwnMonth | None, ...]:
    """Return what was published of the released months inside [first, end), oldest first; None: nothing.

    Raises StoreDamaged, StoreTooNew.
    """
    cache = PublicationCache(OWN_USE, published, publish_nothing, k)
    parts = [
        part
        for part in slices(first, end, by_month=True)
        if any(published.summary(kind, part.first, part.end) for kind in PublicationKind)
    ]
    return tuple(cache.read(part.first, part.end) for part in parts)


def own_use_rows(months: Sequence[OwnMonth | None], first: date, end: date) -> list[Row]:
    """Return a row for the agents of each population, one for the collector, and the whole with its ratio.

    Where a released month does not tell it, the row has the newest such month's reason.
    """
    common: dict[str, Value] = {
        "period_from": first.isoformat(),
        "period_to": end.isoformat(),
        "level": LEVEL,
    }
    known = [one for one in months if one is not None]
    populations = sorted({agents.population for one in known for agents in one.agents})
    rows = [
        *(_agents(population, known) for population in populations),
        *([_collector(known)] if known else ()),
        {"own_part": OwnPart.WHOLE.value, "own_months": 0, **whole_use(known), "reason": _reason(months)},
    ]
    return [{**common, **_known(row)} for row in rows]


def _reason(months: Sequence[OwnMonth | None]) -> OwnReason | None:
    """Return why the newest month without a whole has none; None where each has one."""
    for one in reversed(months):
        if one is None:
            return OwnReason.NOT_PUBLISHED
        if one.energy_millijoules is None:
            is_counted = one.collector_energy_millijoules is not None
            return OwnReason.NOT_REPORTED if is_counted else OwnReason.NOT_COUNTED
    return None if months else OwnReason.NOT_RELEASED


def whole_use(months: Iterable[OwnMonth]) -> dict[str, Value | None]:
    """Return the sum of the months in which all parts are known, and the avoidable energy that they show.

    Empty without such a month.
    """
    known = [one for one in months if one.energy_millijoules is not None]
    if not known:
        return {}
    spent = sum(one.energy_millijoules or 0 for one in known) / MILLIJOULES_PER_KWH
    found = [one.avoidable_kwh for one in known]
    avoidable = None if None in found else sum(one or 0.0 for one in found)
    return {
        "own_part": OwnPart.WHOLE.value,
        "own_months": len(known),
        "kwh_own": spent,
        "gsd2": OWN_GSD2,
        "kwh_avoidable": avoidable,
        "own_avoidable_ratio": avoidable / spent if avoidable is not None and spent else None,
    }


def _agents(population: Population, months: Iterable[OwnMonth]) -> dict[str, Value | None]:
    mine = [one for month in months for one in month.agents if one.population is population]
    known = [one for one in mine if one.energy_millijoules is not None]
    row: dict[str, Value | None] = {
        "population": population.value,
        "own_part": OwnPart.AGENTS.value,
        "own_months": len(known),
        "reason": OwnReason.NOT_REPORTED if len(known) < len(mine) else None,
    }
    if not known:
        return row
    return {
        **row,
        "n": max(one.machines for one in known),
        "kwh_own": sum(one.energy_millijoules or 0 for one in known) / MILLIJOULES_PER_KWH,
        "gsd2": OWN_GSD2,
        "own_cpu_hours": _hours([one.cpu_milliseconds for one in known]),
        **_bytes(known),
    }


def _collector(months: Sequence[OwnMonth]) -> dict[str, Value | None]:
    known = [one for one in months if one.collector_energy_millijoules is not None]
    row: dict[str, Value | None] = {
        "own_part": OwnPart.COLLECTOR.value,
        "own_months": len(known),
        "reason": OwnReason.NOT_COUNTED if len(known) < len(months) else None,
    }
    if not known:
        return row
    return {
        **row,
        "kwh_own": sum(one.collector_energy_millijoules or 0 for one in known) / MILLIJOULES_PER_KWH,
        "gsd2": OWN_GSD2,
        "own_cpu_hours": _hours([one.collector_cpu_milliseconds for one in known]),
    }


def _hours(milliseconds: Sequence[int | None]) -> float | None:
    known = [one for one in milliseconds if one is not None]
    return sum(known) / MILLISECONDS_PER_HOUR if len(known) == len(milliseconds) else None


def _bytes(agents: Sequence[AgentsUse]) -> dict[str, Value | None]:
    """Return the bytes of the calls; None where a month does not tell them."""
    return {
        f"own_{name}_bytes": None if None in values else sum(one or 0 for one in values)
        for name, values in (
            ("received", [one.received_bytes for one in agents]),
            ("sent", [one.sent_bytes for one in agents]),
        )
    }


def _known(row: dict[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in row.items() if value is not None}
