# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the file of a year to close, in the command's own process, beside the running collector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.calendars.periods import slices
from veilleuse.collector.closed_years import preconditions
from veilleuse.collector.closed_years.difference import difference
from veilleuse.collector.closed_years.document import FrozenTerms, terms_document
from veilleuse.collector.closed_years.frozen import KIND, ClosedRevision, frozen_documents, revision_of
from veilleuse.collector.closed_years.published_rows import Months, released_document, released_months
from veilleuse.collector.closed_years.sign_off import SignOff, write_template
from veilleuse.collector.closed_years.sign_off_conditions import of_sign_off
from veilleuse.collector.closed_years.signed_year import SIGN_OFF, read_signed_year
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.errors import UsageError
from veilleuse.collector.fleet.estimator import class_microwatts
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.closed_years import (
    FORMAT,
    MONTHS_OF_YEAR,
    RELEASED,
    ClosedFile,
    ClosedYear,
    YearState,
    canonical,
    figures_of,
    sha256,
)
from veilleuse.collector.release.figures import PublishedFleet
from veilleuse.collector.reports.fleet_year import factor_chooser
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.kept_years import LATER, ROOMS_BASIS, YearBasis, choose_basis
from veilleuse.collector.settings import CollectorSettings

_NOT_COMPARED: Final = frozenset(
    {
        "revision",
        "report_id",
        "previous_sha256",
        "who",
        "why",
        "closed_unix_milliseconds",
        "product_version",
        "difference",
        "basis",
        "rooms_basis",
    }
)
"""Fields of the report whose change alone makes no revision."""


@dataclass(frozen=True, slots=True)
class ClosingOrder:
    """Year, state and author of a closing."""

    year: int
    definitive: bool
    who: str
    why: str
    now_unix_milliseconds: int
    today: date
    sign_off: SignOff | None = None
    """None: that of the last revision, if it has one."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Closed year that would be written; nothing is written yet."""

    closed_year: ClosedYear
    report: Mapping[str, Any]
    file: ClosedFile
    """File without its signature."""
    before: ClosedRevision | None
    """Last revision of the year."""
    refused: tuple[str, ...]
    """Reasons that forbid a definitive closing; a provisional closing only lists them."""
    notes: tuple[str, ...] = ()
    """Remarks on figures that can no longer be corrected."""

    @property
    def changed(self) -> bool:
        """Return true when something differs from the last revision, or there is none."""
        return self.before is None or _without_changing_fields(self.report) != _without_changing_fields(
            self.before.report
        )


def propose(sources: Sources, settings: CollectorSettings, order: ClosingOrder) -> Proposal:
    """Compute the closed year.

    Raises UsageError when it is too early or too late, UnknownZone for a place without a factor,
    NotAClosedYear for a damaged revision.
    """
    last = _last_revision(sources, order.year)
    if reason := preconditions.not_over(order.year, order.today):
        raise UsageError(reason)
    basis = choose_basis(sources, settings, order.year, order.today, last)
    kept, facts, statistics = basis.kept, basis.facts, basis.statistics
    months = _released_months(sources, order.year, last)
    terms = _terms(sources, order.year, basis, months)
    definitive = order.definitive or (
        last is not None and last.closed_year.state is YearState.CLOSED_DEFINITIVE
    )
    signed = order.sign_off
    if signed is None:
        signed = {} if last is None else last.report.get(SIGN_OFF, {})
    state = YearState.CLOSED_DEFINITIVE if definitive else YearState.CLOSED_PROVISIONAL
    revision = 1 if last is None else last.closed_year.revision + 1
    closed_year = ClosedYear(order.year, revision, state, order.now_unix_milliseconds, sha256(statistics), "")
    report = {
        **_head(closed_year, order, last),
        **facts,
        "k_anonymity": kept.k,
        "basis": basis.source,
        "terms": terms_document(terms),
        "figures": frozen_documents(kept, terms),
        **({RELEASED: released_document(months, kept.k, terms, kept.perimeters)} if months else {}),
        "difference": None if last is None else difference(last, kept, terms),
        **({SIGN_OFF: signed} if signed else {}),
    }
    file = ClosedFile(canonical(report), statistics, b"")
    # Compare what is written: JSON turns tuples into lists.
    as_written = json.loads(file.report)
    signed_year = read_signed_year(sources.closings, as_written)
    refused = (
        *_refusals(sources, settings, order.year, kept, terms, of_machines=basis.is_of_machines),
        *of_sign_off(as_written, signed_year, None if last is None else last.report, order.today),
    )
    notes = () if signed_year is None else tuple(note["en"] for note in signed_year.notes)
    notes += _notes(facts, order.year, settings.retention.server_records_months)
    notes += _notes_on_months(order.year, months)
    return Proposal(replace(closed_year, sha256=sha256(file.content)), as_written, file, last, refused, notes)


def _notes(facts: Mapping[str, Any], year: int, months: int) -> tuple[str, ...]:
    basis = str(facts.get(ROOMS_BASIS, ""))
    if not basis.startswith(LATER):
        return ()
    said = (
        f"no reading of a meter before {basis.removeprefix(LATER)} is there (none was taken, or it is older than {months} months): rooms of "
        f"{year} are of the later ones"
    )
    return (said,)


def _notes_on_months(year: int, months: Months) -> tuple[str, ...]:
    """Say what the figure of a year rests on that lacks released months."""
    if len(months) == MONTHS_OF_YEAR:
        return ()
    said = f"released months of {year}: {len(months)} of {MONTHS_OF_YEAR} ('veilleuse published list'); its figure is the year's own estimate"
    if not months:
        return (said,)
    names = ", ".join(f"{part.first:%Y-%m}" for part, _ in months)
    return (f"{said}; these months stay as published: {names}",)


def template_of(sources: Sources, settings: CollectorSettings, order: ClosingOrder) -> str:
    """Write the sign-off file of a year to fill in, with the answers of the newest revision before.

    Raises as `propose`.
    """
    figures = figures_of(propose(sources, settings, order).report)
    revisions = [one for one in sources.closings.revisions() if one.year <= order.year]
    for one in sorted(revisions, key=lambda one: (one.year, one.revision), reverse=True):
        if before := json.loads(sources.closings.file(one).report).get(SIGN_OFF):
            return write_template(order.year, before, figures)
    return write_template(order.year, {}, figures)


def _head(closed_year: ClosedYear, order: ClosingOrder, last: ClosedRevision | None) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format": FORMAT,
        "year": closed_year.year,
        "revision": closed_year.revision,
        "report_id": closed_year.report_id,
        "state": closed_year.state.value,
        "previous_sha256": None if last is None else last.closed_year.sha256,
        "who": order.who,
        "why": order.why,
        "closed_unix_milliseconds": closed_year.closed_unix_milliseconds,
        "method_version": METHOD_VERSION,
        "product_version": product_version(),
        "statistics_sha256": closed_year.statistics_sha256,
    }


def _last_revision(sources: Sources, year: int) -> ClosedRevision | None:
    revisions = sources.closings.revisions(year)
    return revision_of(revisions[-1], sources.closings.file(revisions[-1])) if revisions else None


def _released_months(sources: Sources, year: int, last: ClosedRevision | None) -> Months:
    """Return the released months of the year: each as published, else as in the last revision.

    A month that neither has is left out: a closing takes no other month back.
    """
    fleet = PublishedFleet(sources.published)
    before = {} if last is None else dict(released_months(last.report))
    months = slices(date(year, 1, 1), date(year + 1, 1, 1), by_month=True)
    return [
        (part, fleet.rows(part) if fleet.has(part) else before[part])
        for part in months
        if part in before or fleet.has(part)
    ]


def _terms(sources: Sources, year: int, basis: YearBasis, months: Months) -> FrozenTerms:
    """Return the current terms; for deleted machines, the calibrations stored with their statistics."""
    choose, kept = factor_chooser(sources), basis.kept
    zones = {Place.of(one.stratum).zone for one in kept.fleet}
    zones |= {Place.of(cell.stratum).zone for cell in kept.cells} | {room.zone for room in kept.rooms}
    zones |= {row.key.zone for _, rows in months for row in rows if row.energy_millijoules}
    mappings = sources.factors.mappings()
    return FrozenTerms(
        {zone: choose(zone, year) for zone in sorted(zones)},
        mappings[-1] if mappings else DEFAULT_MAPPING,
        [one.contract for one in sources.factors.contracts() if one.withdrawn_unix_milliseconds is None],
        replace(
            basis.known,
            class_microwatts=class_microwatts(sources.declared_powers.powers),
            declared=frozenset(sources.declared_powers.by_class),
        ),
        "simulated" if sources.reader.data_kind().simulated else "real",
    )


def _refusals(
    sources: Sources,
    settings: CollectorSettings,
    year: int,
    kept: YearStatistics,
    terms: FrozenTerms,
    *,
    of_machines: bool,
) -> list[str]:
    refusals = list(preconditions.of_terms(terms, kept))
    if of_machines:  # otherwise no figure includes data received since
        refusals += preconditions.of_data(year, sources.closings.waiting(year))
        refusals += preconditions.of_inventory(
            len(sources.inventory.doubts()), sources.inventory.assets(), year
        )
    return [*refusals, *preconditions.of_coverage(kept, settings.closing.coverage_minimum_ratio)]


def _without_changing_fields(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in _NOT_COMPARED}
