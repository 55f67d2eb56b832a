# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the indicative ledger as a Document of its own.

No total adds it to the official ledger, and every row is labelled as indicative.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from veilleuse.collector.documents.document import Chart, Document, Head, Row, Text, Value
from veilleuse.collector.grid.ledger import indicative
from veilleuse.collector.model.grid import (
    LABEL,
    Hourly,
    IntensityKind,
    LedgerLine,
    SeriesState,
    Sums,
)
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.ports.store import HourReader, Reader
from veilleuse.wire.units import MILLIGRAMS_PER_GRAM, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

INDICATIVE: Final = "indicative"
COLUMNS: Final = (
    "period_from",
    "period_to",
    "entity",
    "site",
    "zone",
    "population",
    "device_class",
    "level",
    "ledger",
    "n",
    "kwh_total",
    "kgco2e_indicative",
    "intensity_gco2e_per_kwh",
    "coverage_intensity",
    "kwh_without_intensity",
    "intensity_status_mix",
    "intensity_series",
    "intensity_kind",
    "energy_millijoules",
    "data",
)
TITLE: Final = {
    "fr": "Émissions indicatives de l’électricité, heure par heure (hors bilan)",
    "en": "Indicative emissions of electricity, hour by hour (hors bilan: no part of the footprint)",
}
METHOD: Final[tuple[Text, ...]] = (
    {
        "fr": "Registre indicatif, hors bilan. L’énergie de chaque heure est multipliée par l’intensité du réseau de la même heure, puis "
        "sommée : jamais une moyenne d’intensités fois une somme d’énergies. Ces chiffres ne s’ajoutent à aucun autre et ne remplacent pas "
        "le registre officiel, qui applique le facteur annuel de l’ADEME.",
        "en": "Indicative ledger (indicatif, hors bilan). The energy of each hour is multiplied by the grid's intensity of the same hour, "
        "then summed: never a mean of intensities times a sum of energies. These figures add to no others, and do not stand in for the "
        "official ledger, which applies ADEME's yearly factor.",
    },
    {
        "fr": "Une heure sans intensité publiée est un trou : son énergie est montrée (kwh_without_intensity) et n’a pas d’émissions ici ; "
        "jamais le facteur annuel ne la comble. L’énergie d’une heure est répartie également sur ses quarts d’heure.",
        "en": "An hour without a published intensity is a gap: its energy is shown (kwh_without_intensity) and has no emissions here; the "
        "yearly factor never fills it. The energy of an hour is spread evenly over its quarters.",
    },
)
ASSUMPTIONS: Final[tuple[Text, ...]] = (
    {
        "fr": "Serveurs et salles de classe seulement : les postes de travail n’envoient aucune heure. Rien n’est extrapolé aux machines sans agent.",
        "en": "Servers and classrooms alone: workstations send no hours. Nothing is extrapolated to machines without an agent.",
    },
    {
        "fr": "Les valeurs temps réel sont provisoires : les valeurs consolidées les remplacent, et ces chiffres changent alors.",
        "en": "Real-time values are provisional: consolidated ones replace them, and these figures change then.",
    },
    {
        "fr": "Aucun intervalle n’est donné : les éditeurs n’en publient pas.",
        "en": "No interval is given: the publishers state none.",
    },
    {
        "fr": "Les groupes de moins de k PC de classe, ou dont l’un dépasse 85 %, sont réunis dans « autres », ou non publiés.",
        "en": "Groups of fewer than k classroom PCs, or with one above 85 %, are merged into autres, or withheld.",
    },
    {
        "fr": "Les machines virtuelles sont en mémo : le serveur qui les porte porte aussi leur énergie.",
        "en": "Virtual machines are a memo line: the host that runs them carries their energy.",
    },
)
_KINDS: Final[dict[IntensityKind, Text]] = {
    IntensityKind.CONSUMPTION: {
        "fr": "L’intensité est celle de l’électricité consommée dans la zone, importations comprises.",
        "en": "The intensity is that of the electricity consumed in the zone, imports included.",
    },
    IntensityKind.COMBUSTION: {
        "fr": "L’intensité est celle de la combustion dans les centrales de la zone : ni amont, ni pertes, ni importations ; elle est plus basse "
        "que tout facteur de consommation.",
        "en": "The intensity is that of combustion in the zone's power stations: neither upstream, nor losses, nor imports; it is lower than any "
        "consumption factor.",
    },
}
_FEW_ROWS: Final = 20


def document(found: Hourly, head: Head, *, series: str, data: str) -> Document:
    """Build the report of a ledger; `head` describes the query."""
    kind = found.states[0].kind if found.states else None
    common = {"intensity_series": series, "intensity_kind": kind and kind.value, "data": data}
    lines = [line for line in found.ledger.lines if not line.key.memo]
    rows = [_line(line, common) for line in lines]
    return Document(
        head={"kind": INDICATIVE, "ledger": INDICATIVE, "label": LABEL, "intensity_series": series, **head},
        columns=COLUMNS,
        tables={
            "rows": rows,
            "totals": [_total(lines, found, common)] if lines else [],
            "memo": [_line(line, common) for line in found.ledger.lines if line.key.memo],
            "intensities": [_state(one) for one in found.states],
            "withheld": [_withheld(key) for key in found.ledger.withheld],
        },
        tabular=("rows", "totals", "memo"),
        assumptions=(*ASSUMPTIONS, *_notes(found, series)),
        method=METHOD,
        charts=_charts(rows),
        title=TITLE,
        titles={
            "intensities": {"fr": "Séries d’intensité du réseau", "en": "Series of the grid's intensity"}
        },
    )


def _notes(found: Hourly, series: str) -> list[Text]:
    notes = [_KINDS[one] for one in dict.fromkeys(state.kind for state in found.states)]
    if not found.states:
        notes.append(
            {
                "fr": f"La série {series} n’a aucune valeur dans ces zones : tout est un trou.",
                "en": f"The series {series} has no value in these zones: everything is a gap.",
            }
        )
    for population, start in sorted(found.hours_from.items()):
        day = datetime.fromtimestamp(start / MILLISECONDS_PER_SECOND, UTC).date().isoformat()
        notes.append(
            {
                "fr": f"Les heures gardées ({_words(population, 'fr')}) commencent le {day} ; ce qui est plus ancien n’est pas dans ce rapport.",
                "en": f"Hours kept ({_words(population, 'en')}) begin on {day}; what is older is not in this report.",
            }
        )
    return notes


def _words(population: Population, language: str) -> str:
    words = {
        Population.SERVER: ("serveurs", "servers"),
        Population.CLASSROOM: ("salles de classe", "classrooms"),
    }
    return words.get(population, (population.value, population.value))[language == "en"]


def _line(line: LedgerLine, common: dict[str, str | None]) -> Row:
    key = line.key
    place: dict[str, Value | None] = {**key.columns, "level": key.level}
    return _present({**place, **_figures(line.machines, line.sums), **common})


def _total(lines: Sequence[LedgerLine], found: Hourly, common: dict[str, str | None]) -> Row:
    first = lines[0].key
    place: dict[str, Value | None] = {
        "period_from": first.period_from.isoformat(),
        "period_to": first.period_to.isoformat(),
        "level": "total",
    }
    return _present({**place, **_figures(found.ledger.machines, found.ledger.total()), **common})


def _figures(machines: int, sums: Sums) -> dict[str, Value | None]:
    grams, kilograms, coverage = sums.gco2e_per_kwh, sums.kgco2e, sums.coverage
    return {
        "ledger": LABEL,
        "n": machines,
        "kwh_total": float(sums.kwh),
        "kgco2e_indicative": None if kilograms is None else float(kilograms),
        "intensity_gco2e_per_kwh": None if grams is None else float(grams),
        "coverage_intensity": None if coverage is None else float(coverage),
        "kwh_without_intensity": float(sums.gap_kwh),
        "intensity_status_mix": sums.status_mix or None,
        "energy_millijoules": sums.energy_millijoules,
    }


def _present(values: dict[str, Value | None]) -> Row:
    return {name: values[name] for name in COLUMNS if values.get(name) is not None}  # type: ignore[misc]


def _state(one: SeriesState) -> Row:
    return {
        "zone": one.zone,
        "intensity_series": one.series,
        "intensity_kind": one.kind.value,
        "intensity_status": one.status.value,
        "intensity_dataset": one.dataset,
        "values_from": _instant(one.oldest_unix_milliseconds),
        "values_to": _instant(one.newest_unix_milliseconds),
        "newest_gco2e_per_kwh": one.newest_milligrams_per_kwh / MILLIGRAMS_PER_GRAM,
    }


def _instant(unix_milliseconds: int) -> str:
    return datetime.fromtimestamp(unix_milliseconds / MILLISECONDS_PER_SECOND, UTC).strftime(
        "%Y-%m-%dT%H:%MZ"
    )


def _withheld(key: GroupKey) -> Row:
    return {name: word for name, word in key.columns.items() if word is not None}


def _charts(rows: Sequence[Row]) -> tuple[Chart, ...]:
    """Return one bar per row, where names distinguish the rows and the bars are readable."""
    for name in ("entity", "site", "device_class", "population"):
        names = [row.get(name) for row in rows]
        if 1 < len(rows) <= _FEW_ROWS and None not in names and len(set(map(str, names))) == len(rows):
            title = {
                "fr": "Émissions indicatives (hors bilan), kgCO₂e",
                "en": "Indicative emissions (hors bilan), kgCO₂e",
            }
            return (Chart("bar", "rows", name, ("kgco2e_indicative",), title),)
    return ()


class MachineReader(Reader, HourReader, Protocol):
    """Reader of the machines' data that the report needs."""


def indicative_report_of(reader: MachineReader, query: Query, series: str) -> tuple[Hourly, Document]:
    """Compute the ledger of the query, and its document. Raises UsageError."""
    found = indicative(reader, query, series)
    data = "simulated" if reader.data_kind().simulated else "real"
    head: Head = {
        "from": query.first.isoformat(),
        "to": query.end.isoformat(),
        "group_by": list(query.dimensions),
        "k_anonymity": query.k_anonymity,
        "data": data,
        "periods_not_derived": reader.dirty_count(),
        "generated_unix_milliseconds": query.now_unix_milliseconds,
    }
    return found, document(found, head, series=series, data=data)
