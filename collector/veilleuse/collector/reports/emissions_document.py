# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the emissions report: a statement as a Document, with the columns of docs/methodology.md §10 in
order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from veilleuse.collector.documents.document import LANGUAGES, PUBLIC, SHOWN, Chart, Document, Head, Row, Text
from veilleuse.collector.documents.text import words
from veilleuse.collector.model.figures import COLUMNS, SINCE_PUBLICATION, EmissionsRow, EmissionsStatement
from veilleuse.collector.model.query import Basis

FIRST_COLUMNS: Final = (
    "period_from",
    "period_to",
    "entity",
    "site",
    "zone",
    "population",
    "device_class",
    "power_context",
    "level",
    "n",
    "n_fleet",
)
UNDER_WAY: Final = "The period is not over: its days count up to under_way_until, and of the day after it what was measured by now."
NOT_SOURCED: Final = "A factor is not sourced: its number at its publisher, or the day it was read, is not known (factor_sourced)."
Texts: TypeAlias = Mapping[str, Mapping[str, str]]
"""Column → language → text."""
_ORDER: Final = (*FIRST_COLUMNS, *(name for name in COLUMNS if name not in FIRST_COLUMNS))
BASIS: Final = "basis"
"""Field of a report's head: a word of Basis."""
_OWN_ESTIMATE: Final = {
    "fr": "Estimation propre de l’année",
    "en": "The year’s own estimate",
}
"""Title of what stands beside a closed year's released months; not to be published (docs/closing.md)."""
DECLARED_POWERS: Final = "declared_powers"
"""Key of the head: classes at a declared power."""
_NOT_RELEASED: Final = {"fr": "Périodes non publiées", "en": "Periods not published"}
MOST_BARS: Final = 40
FULL_NOTE: Final = "95 % intervals on the log scale hold sampling, models and, for emissions, the factor, which enters once, on the sum."
SAMPLE_NOTES: Final = {
    "_lo_sample": "Sample interval only (…_sample): it holds sampling, models and, for emissions, the factor, as if the measured machines "
    "had been drawn at random. How they were chosen is not in it: nobody knows how often it holds the truth.",
    "_lo_sensitivity": "Sensitivity (…_sensitivity): the sample interval, wider by what follows if the machines that nobody measured draw "
    "1/1.5 to 1.5 times what the measured ones say. The factor 1.5 is an assumption of ours, measured nowhere (method, section 6).",
}
"""End of a column's name → its note."""
ASSUMPTIONS: Final = (
    "Use phase only, location-based, official ledger: one factor per zone and year; not additive to another energy line.",
    "Periods are half-open: period_to is the day after the last; a machine's days are the civil days of its site.",
    "Energy at the socket by the best method available.",
    "kwh_total = measured + modelled + imputed + extrapolated, exactly, in millijoules.",
    "kwh_measured = metered + battery + counter_calibrated; kwh_modelled = every other method.",
    "Imputed: short silences of a machine, from its own other days.",
    "Extrapolated: machines and days of the fleet that nobody measured, from measured ones of their class, place and day type.",
    "The fleet is the inventory's, machine-day by machine-day; without an inventory it is the machines that enrolled.",
    "External screens are on for as long as PCs tell; those of the inventory are in standby (0.3 W) for the rest of their time.",
    "Virtual machines are a memo line: the host that runs them carries their energy.",
    "Coverage is observed over fleet machine-time, up to today.",
    FULL_NOTE,
    "Rows of one period are sums of the same groups, in every grouping. Reports of periods that overlap, or of one period on two days, can be subtracted: publish one cut of the time.",
)


RELEASED_ASSUMPTIONS: Final = {
    ASSUMPTIONS[
        5
    ]: "Imputed: short silences of a server, from its own other days; of PCs nothing is imputed.",
    ASSUMPTIONS[
        6
    ]: "Extrapolated: machines and time that nobody measured, from the published groups of their class and place.",
    ASSUMPTIONS[-1]: "Rows of one period are sums of the same groups, in every grouping.",
}
"""Assumption about machines' data → what holds for released months."""
BASIS_NOTES: Final[Mapping[object, str]] = {
    Basis.RELEASED: "Released: the sum of published months, the same figure for every reader and outlet. By which method the energy of workstations and "
    "classroom PCs is known is not told, nor what causes a change from one year to the next.",
    Basis.OBSERVED: "Observed: the measured part of published months alone, without what is extrapolated. It is not the fleet's figure. Groups that are "
    "published together only are one row (autres); a row that lacks machines for that reason is incomplete.",
    Basis.UNRELEASED: "Unreleased: from the present data of machines. It is not the published figure.",
}


def sample_notes(rows: Iterable[Row]) -> list[str]:
    """Return the notes on intervals that cover the sample only, if any of these rows has one."""
    names = {name for row in rows for name in row}
    return [note for end, note in SAMPLE_NOTES.items() if any(name.endswith(end) for name in names)]


def document(
    statement: EmissionsStatement,
    head: Head,
    shown: Iterable[Texts] = (),
    equivalents: Iterable[Row] = (),
    warnings: Iterable[Text] = (),
) -> Document:
    """Build the report of a statement; `head` describes the query.

    `shown` holds the texts for people of each row, total, memo and row of the year, in this order.
    `equivalents` are at most three comparisons with the total. `warnings` are errors and doubts about its
    figures.
    """
    texts = iter(shown)
    rows, totals, memo, year = (
        [_row(row, next(texts, None)) for row in part]
        for part in (statement.rows, statement.totals, statement.memo, statement.year)
    )
    return Document(
        head={"kind": "emissions", "ledger": "official", **head},
        columns=_ORDER,
        tables={
            "rows": rows,
            "totals": totals,
            "memo": memo,
            **({"year": year} if year else {}),
            "items": list(statement.items),
            "contracts": list(statement.contracts),
            "home_shares": list(statement.homes),
            "factors": list(statement.factors),
            "equivalents": list(equivalents),
            "withheld": list(statement.withheld),
        },
        tabular=("rows", "totals", "memo", *(("year",) if year else ())),
        assumptions=(
            *warnings,
            *_general_notes((*rows, *totals, *memo), head.get(BASIS)),
            *_notes(statement, is_released=_is_released(head)),
            *_head_notes(head),
        ),
        charts=tuple(_charts(rows, totals)),
        titles={
            "equivalents": {
                "fr": "Équivalences, ordre de grandeur",
                "en": "Equivalents, order of magnitude",
            },
            "year": {"fr": "L’année entière", "en": "The whole year"},
            **({"withheld": _NOT_RELEASED, "year": _OWN_ESTIMATE} if _is_released(head) else {}),
        },
    )


def _is_released(head: Head) -> bool:
    return head.get(BASIS) in (Basis.RELEASED, Basis.OBSERVED)


def _general_notes(rows: Sequence[Row], basis: object) -> Iterable[str]:
    """Yield the notes of every report, and those on its basis and on the kinds of intervals in these rows."""
    if basis in BASIS_NOTES:
        yield BASIS_NOTES[basis]
    changed = RELEASED_ASSUMPTIONS if basis in (Basis.RELEASED, Basis.OBSERVED) else {}
    for note in ASSUMPTIONS:
        if note != FULL_NOTE or any("kwh_lo95" in row for row in rows):
            yield changed.get(note, note)
        if note == FULL_NOTE:
            yield from sample_notes(rows)


def _notes(statement: EmissionsStatement, *, is_released: bool) -> Iterable[Text]:
    every = (*statement.rows, *statement.totals, *statement.memo)
    if any(row.activity.days_observed is not None for row in every):
        yield (
            "Days covered (days_observed) are days of the period that at least k measured machines tell of, one of servers; the rest"
            " of the period is estimated from them."
        )
    yield from _month_notes(statement, is_released=is_released)
    if any(row.activity.apportioned for row in every):
        yield "Weeks were shared between their days in proportion to the calendar's open time (apportioned)."
    if any(row.factor.provisional for row in every):
        yield "A factor is provisional: the year's own is not published, the last published one stands in."
    if not all(one["factor_sourced"] for one in statement.factors):
        yield NOT_SOURCED
    if any(row.energy.estimated for row in every):
        yield "Above 20 % of a figure is imputed: it is estimated."
    if any(row.activity.representativeness == "not demonstrated" for row in every):
        yield "The roll-out is not declared random (reporting.random_roll_out), or too little of the time was seen: that measured machines stand for the others is not demonstrated."
    if any(row.energy.energy_millijoules is None for row in statement.rows):
        yield "Some rows have machines and no energy: none of their class was measured, and nothing stands in for it."
    if len({row.get("factor_series") for row in statement.factors}) > 1:
        yield "Factors of several series: a change between them is the factor and ADEME's method together."
    yield from _change_notes(statement)
    yield from _bilan_notes(statement)
    if statement.withheld and is_released:
        yield "A part of the period is not published, or not yet (withheld): it is in no row or total."
    elif statement.withheld:
        yield (
            "Incomplete: a zone has too few machines to be shown (withheld); what they measured is in no row or total, they count at the"
            " class default."
        )


def _month_notes(statement: EmissionsStatement, *, is_released: bool) -> Iterable[Text]:
    """Yield the notes on months and their year."""
    if not is_released and len({row.key.period_from.year for row in statement.totals}) < len(
        statement.totals
    ):
        yield "Each month is estimated by its own days: months do not sum exactly to the figure of their year."
    if not any(row.level == SINCE_PUBLICATION for row in statement.year):
        return
    if is_released:
        yield (
            "The total is the sum of the released months, and the figure of the year; the year's own estimate (estimate) and its difference"
            " (since_publication) stand beside it for information."
        )
    else:
        yield (
            "The year's total is the year's own estimate; what it differs by from its months, as each was published, is one line"
            " (since_publication)."
        )


def _change_notes(statement: EmissionsStatement) -> Iterable[Text]:
    """Yield the notes on the change from the year before."""
    every = (*statement.rows, *statement.totals)
    if any(row.change.fleet_effect_kwh is not None for row in every):
        yield (
            "The change from the year before is told by fleet, mix of classes, hours in state and watts in state, in that order;"
            " the factor's effect stands apart."
        )
        yield (
            "Each effect stands with its margin (±): the samples of both years, which err together where the same machines were"
            " measured, and models. An effect smaller than its margin may be chance."
        )
    yield from _not_compared(statement)


def _not_compared(statement: EmissionsStatement) -> Iterable[Text]:
    """Yield the notes on totals without a change."""
    for row in statement.totals:
        if row.change.not_compared in (None, "running", "released"):  # the note on the basis tells the last
            continue
        french, english = (
            words(language).word("not_compared", row.change.not_compared) for language in LANGUAGES
        )
        days, before = row.activity.days_observed, row.change.days_observed_before
        if days is not None and before is not None:
            french += f" ; cette période couvre {days:.0f} jours, celle d’avant {before:.0f}"
            english += f"; this period covers {days:.0f} days, the one before {before:.0f}"
        yield {
            "fr": f"Du {row.key.period_from} au {row.key.period_to} (exclu), la variation du total n’est pas dite : {french}.",
            "en": f"From {row.key.period_from} to {row.key.period_to} (exclusive) the change of the total is not told: {english}.",
        }


def _head_notes(head: Head) -> Iterable[Text]:
    """Yield the notes on years whose machines are deleted, and on missing declarations of devices."""
    if years := head.get("years_of_statistics"):
        told = ", ".join(map(str, years)) if isinstance(years, list) else str(years)
        yield {
            "fr": "Année non close dont les mois des machines ont expiré : calculée à partir des statistiques que le collecteur en avait "
            f"conservées avant, sans machine, avec les facteurs d’aujourd’hui : {told}.",
            "en": "A year that is not closed and whose months of machines have gone: computed from the statistics that the collector had "
            f"kept of it before, without machines, with the factors of today: {told}.",
        }
    if classes := head.get(DECLARED_POWERS):
        told = ", ".join(map(str, classes)) if isinstance(classes, list) else str(classes)
        yield {
            "fr": f"Puissances déclarées par un autre inventaire, que personne n’a mesurées, pour : {told}. Là où elles font plus de la moitié "
            "de l’énergie d’une ligne, celle-ci est un ordre de grandeur (base declared_power, GSD² 4).",
            "en": f"Powers that another inventory declared and nobody measured, for: {told}. Where they give more than half of a row’s energy, "
            "it is an order of magnitude (basis declared_power, GSD² 4).",
        }
    if head.get(PUBLIC):
        yield {
            "fr": "Version à publier : chaque nombre est une somme de mois publiés, ou s’en déduit avec l’inventaire et des constantes.",
            "en": "For publication: every number is a sum of released months, or follows from them with the inventory and constants.",
        }
    if without_day := head.get("devices_without_day"):
        yield {
            "fr": "Équipements de l’inventaire sans date de mise en service, comptés dès le premier jour de la période, qu’ils aient "
            f"un agent ou non : {without_day}.",
            "en": "Devices of the inventory without a day of service, counted from the first day of the period on, with an agent or "
            f"without one: {without_day}.",
        }
    if without_site := head.get("devices_without_site"):
        zone = head.get("default_zone")
        yield {
            "fr": f"Équipements de l’inventaire sans site déclaré, comptés dans la zone électrique {zone} (reporting.zone), ouverts du "
            f"lundi au vendredi : {without_site}.",
            "en": f"Devices of the inventory without a declared site, counted in grid zone {zone} (reporting.zone), open Monday to "
            f"Friday: {without_site}.",
        }


def _bilan_notes(statement: EmissionsStatement) -> Iterable[Text]:
    """Yield the notes on items of the bilan carbone and on contracts."""
    every = (*statement.rows, *statement.totals, *statement.memo)
    if statement.homes:
        yield (
            "Laptops of entities with declared telework days draw a part of their energy at home (power_context home):"
            " declared days, rounded, ÷ 5 worked days, told by no machine. Their machines are counted in both rows (home_shares)."
        )
    if any(row.items.beges_item_upstream is not None for row in every):
        yield "A row's combustion goes to beges_item; its upstream, losses and split residual go to beges_item_upstream."
    if any(row.emissions.kgco2e_market is not None for row in every):
        yield (
            "Market-based: contracts cover what the organisation buys (in_beges_energie); the rest, and what others buy, is at the"
            " location's factor."
        )
    for one in statement.contracts:
        if "kwh_site_unknown" in one:
            yield _site_contract_note(one)


def _site_contract_note(one: Mapping[str, str | float | bool]) -> Text:
    """Say what a contract with a site is not given, because nobody can tell where it is."""
    covered, unknown = (
        {language: words(language).kwh(float(one[name])) for language in LANGUAGES}
        for name in ("kwh_covered", "kwh_site_unknown")
    )
    return {
        "fr": f"Contrat {one['contract_id']} ({one['supplier']}), limité au site {one['site']}, du {one['period_from']} au {one['period_to']} (exclu) : "
        f"il couvre {covered['fr']}. De {unknown['fr']} le site n’est pas connu (entités à plusieurs sites, serveurs, salles des mois publiés) : "
        "au facteur du lieu, même si ce contrat les couvre.",
        "en": f"Contract {one['contract_id']} ({one['supplier']}), of site {one['site']} alone, {one['period_from']} to {one['period_to']} (exclusive): "
        f"it covers {covered['en']}. Of {unknown['en']} the site is not known (entities at several sites, servers, rooms of released months): "
        "at the location's factor, even where this contract covers them.",
    }


def _charts(rows: list[Row], totals: list[Row]) -> Iterable[Chart]:
    """Yield the readable charts: bars of a period's rows, a line over periods."""
    if len(totals) > 1:
        yield Chart("line", "totals", "period_from", ("kwh_total",), "Energy over the periods")
    elif 1 < len(rows) <= MOST_BARS:
        for name, title in (("entity", "Energy by entity"), ("device_class", "Energy by device class")):
            values = [row.get(name) for row in rows]
            if None not in values and len(set(values)) == len(rows):
                yield Chart("bar", "rows", name, ("kwh_total",), title)


def _row(row: EmissionsRow, shown: Texts | None) -> Row:
    """Return the row's known values, in the order of the columns."""
    values = row.columns
    made: dict[str, Any] = {name: value for name in _ORDER if (value := values[name]) is not None}
    return {**made, SHOWN: dict(shown)} if shown else made
