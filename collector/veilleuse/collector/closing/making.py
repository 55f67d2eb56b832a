# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a year would be closed as: computed in the command's own process, beside the running collector."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from veilleuse.collector.account.bilan import DEFAULT_MAPPING
from veilleuse.collector.account.billing import METHOD_VERSION
from veilleuse.collector.account.class_defaults import class_microwatts
from veilleuse.collector.account.kept import Kept
from veilleuse.collector.account.sample import Place
from veilleuse.collector.calibrated import facts_of
from veilleuse.collector.closed import FORMAT, ClosedFile, ClosedYear, YearState, canonical, sha256
from veilleuse.collector.closing import refusals
from veilleuse.collector.closing.difference import difference
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model import Site
from veilleuse.collector.reporting.assumptions import assumptions
from veilleuse.collector.reporting.closed_json import kept_document
from veilleuse.collector.reporting.closed_terms import FrozenTerms, terms_document
from veilleuse.collector.reporting.closed_years import KIND, Closed, closed_of
from veilleuse.collector.reporting.frozen import frozen_documents
from veilleuse.collector.reporting.keep_year import keep_year
from veilleuse.collector.reporting.rooms import readings_gone_before
from veilleuse.collector.reporting.savings import moved
from veilleuse.collector.reporting.sources import Sources
from veilleuse.collector.reporting.undeclared import IN_NO_ROOM, UNDECLARED, undeclared
from veilleuse.collector.reporting.zones import chooser
from veilleuse.collector.rolling.retention import months_before
from veilleuse.collector.settings import CollectorSettings, Retention
from veilleuse.collector.version import product_version
from veilleuse.wire.vocabulary import Population

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
"""What makes no revision by itself."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked."""

    year: int
    definitive: bool
    who: str
    why: str
    now_unix_milliseconds: int
    today: date


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would be written; nothing is."""

    told: ClosedYear
    report: Mapping[str, Any]
    file: ClosedFile
    """Without its signature."""
    before: Closed | None
    """The last revision."""
    refused: tuple[str, ...]
    """Why it cannot be; a provisional closing never is for these, but is told of them."""
    notes: tuple[str, ...] = ()
    """What should be known of its figures, and cannot be helped any more."""

    @property
    def changed(self) -> bool:
        """Something differs from the last revision, or there is none."""
        return self.before is None or _compared(self.report) != _compared(self.before.report)


def propose(sources: Sources, settings: CollectorSettings, order: Order) -> Proposal:
    """Raises UsageError when it is too early or too late, UnknownZone for a place without a factor, NotAClosedYear for a damaged one."""
    last = _last(sources, order.year)
    if reason := refusals.not_over(order.year, order.today):
        raise UsageError(reason)
    from_kept = _must_stand_on_kept(sources, settings, order, last)
    if from_kept and last is not None:
        facts = {name: last.report[name] for name in (*_FACTS, _ROOMS_BASIS) if name in last.report}
        kept = last.kept
        statistics = sources.closings.file(last.told).statistics  # as they were written, by whatever program
    else:
        kept = keep_year(sources, order.year, k=settings.reporting.k_anonymity, today=order.today)
        kept, rooms_basis = _with_rooms(sources, settings, order, kept, last)
        facts = {**_facts(sources, order.year), _ROOMS_BASIS: rooms_basis}
        if last is not None and kept.rooms == last.kept.rooms:  # the readings that it rests on may be gone
            facts |= {IN_NO_ROOM: last.report[IN_NO_ROOM]} if IN_NO_ROOM in last.report else {}
        statistics = canonical(kept_document(kept))
    terms = _terms(sources, settings, order.year, kept, last if from_kept else None)
    definitive = order.definitive or (last is not None and last.told.state is YearState.CLOSED_DEFINITIVE)
    refused = tuple(_refusals(sources, settings, order.year, kept, terms, from_kept=from_kept))
    state = YearState.CLOSED_DEFINITIVE if definitive else YearState.CLOSED_PROVISIONAL
    revision = 1 if last is None else last.told.revision + 1
    told = ClosedYear(order.year, revision, state, order.now_unix_milliseconds, sha256(statistics), "")
    report = {
        **_head(told, order, last),
        **facts,
        "k_anonymity": kept.k,
        "basis": f"statistics of {last.told.report_id}" if from_kept and last else "machines",
        "terms": terms_document(terms),
        "figures": frozen_documents(kept, terms),
        "difference": None if last is None else difference(last, kept, terms),
    }
    file = ClosedFile(canonical(report), statistics, b"")
    # As read back: tuples are lists there, and what is compared is what is written.
    as_written = json.loads(file.report)
    notes = _notes(facts, order.year, settings.retention.server_records_months)
    return Proposal(replace(told, sha256=sha256(file.content)), as_written, file, last, refused, notes)


_FACTS: Final = (
    "inventory_imported_on",
    *UNDECLARED,
    "calendars",
    "school_holidays_sha256",
    "calibrations",
)
_ROOMS_BASIS: Final = "rooms_basis"
_LATER: Final = "readings since "


def _with_rooms(
    sources: Sources, settings: CollectorSettings, order: Order, kept: Kept, last: Closed | None
) -> tuple[Kept, str]:
    """Readings of meters go before the year's own factor is there: rooms are then those that the last revision kept; and what they are of."""
    gone = readings_gone_before(sources, order.year, order.today, settings.retention.server_records_months)
    if gone is None or not (kept.rooms or (last and last.kept.rooms)):
        return kept, "readings"
    if last is None:
        return kept, f"{_LATER}{gone}"
    before = str(last.report.get(_ROOMS_BASIS, ""))
    basis = before if before.startswith(_LATER) else f"statistics of {last.told.report_id}"
    return replace(kept, rooms=last.kept.rooms), basis


def _notes(facts: Mapping[str, Any], year: int, months: int) -> tuple[str, ...]:
    basis = str(facts.get(_ROOMS_BASIS, ""))
    if not basis.startswith(_LATER):
        return ()
    said = (
        f"readings of meters before {basis.removeprefix(_LATER)} are gone, they are kept for {months} months: rooms of {year} are of the "
        "later ones; close a year provisionally in January"
    )
    return (said,)


def _facts(sources: Sources, year: int) -> dict[str, Any]:
    """What was in force."""
    imported = sources.inventory.inventory_imported_on()
    return {
        "inventory_imported_on": imported.isoformat() if imported else None,
        **undeclared(sources, date(year, 1, 1), date(year + 1, 1, 1)),
        "calendars": {site.site: _calendar_sha256(sources, site) for site in sources.reader.sites()},
        "school_holidays_sha256": sha256(
            canonical(
                [
                    [one.zone.value, one.first.isoformat(), one.last.isoformat(), one.name]
                    for one in sources.reader.school_periods()
                ]
            )
        ),
        "calibrations": [
            {"calibration_id": stored.calibration_id, **facts_of(stored.kept)}
            for stored in sources.reader.calibrations()
            if stored.ended_unix_milliseconds is None
        ],
    }


def _calendar_sha256(sources: Sources, site: Site) -> str:
    """Of all versions of a site's calendar."""
    versions = [
        [
            version.from_day.isoformat(),
            version.calendar.to_json(),
            version.declaration.to_json() if version.declaration else None,
        ]
        for version in sources.reader.calendars(site)
    ]
    return sha256(canonical(versions))


def _head(told: ClosedYear, order: Order, last: Closed | None) -> dict[str, Any]:
    return {
        "kind": KIND,
        "format": FORMAT,
        "year": told.year,
        "revision": told.revision,
        "report_id": told.report_id,
        "state": told.state.value,
        "previous_sha256": None if last is None else last.told.sha256,
        "who": order.who,
        "why": order.why,
        "closed_unix_milliseconds": told.closed_unix_milliseconds,
        "method_version": METHOD_VERSION,
        "product_version": product_version(),
        "statistics_sha256": told.statistics_sha256,
    }


def _last(sources: Sources, year: int) -> Closed | None:
    revisions = sources.closings.revisions(year)
    return closed_of(revisions[-1], sources.closings.file(revisions[-1])) if revisions else None


def _must_stand_on_kept(
    sources: Sources, settings: CollectorSettings, order: Order, last: Closed | None
) -> bool:
    """Machines' months may be gone. Raises UsageError when they are and nothing was kept."""
    if last is not None and last.told.state is YearState.CLOSED_DEFINITIVE:
        return True
    if not _are_gone(sources, settings.retention, order):
        return False
    if last is None:
        raise UsageError(
            f"months of machines in {order.year} are gone, they are kept for {settings.retention.pc_monthly_months} months, and "
            f"{order.year} was never closed meanwhile: a year is closed in the first half of the next"
        )
    return True


def _are_gone(sources: Sources, kept: Retention, order: Order) -> bool:
    """Whether retention has taken months of the year: too old ones that there must have been are not there.

    That few machines have such a month proves nothing: a late record makes one, and what cannot be kept holds one back.
    """
    january = date(order.year, 1, 1)
    seen = {host_id for host_id, _, _ in sources.reader.state_totals()}
    hosts = [host for host in sources.reader.hosts() if host.host_id in seen]
    for population in Population:
        months = kept.server_daily_months if population is Population.SERVER else kept.pc_monthly_months
        mine = [host for host in hosts if host.population is population]
        if not mine or months_before(order.today, months) < january.replace(month=2):
            continue
        first = max(january, min(host.enrolled_on for host in mine).replace(day=1))
        end = moved(first, 1)
        there = {row.host_id for row in sources.periods.host_months(first, end)}
        enrolled = [host.host_id for host in mine if host.enrolled_on < end]
        if first.year == order.year and 2 * sum(one in there for one in enrolled) < len(enrolled):
            return True
    return False


def _terms(
    sources: Sources, settings: CollectorSettings, year: int, kept: Kept, last: Closed | None
) -> FrozenTerms:
    """As they are now; of the machines that are gone, the calibrations are those of when they were kept."""
    choose = chooser(sources)
    zones = {Place.of(one.stratum).zone for one in kept.fleet}
    zones |= {Place.of(cell.stratum).zone for cell in kept.cells} | {room.zone for room in kept.rooms}
    mappings = sources.factors.mappings()
    if last is None:
        known = assumptions(sources, random_roll_out=settings.reporting.random_roll_out)
    else:
        known = replace(last.terms.assumptions, class_microwatts=class_microwatts())
    return FrozenTerms(
        {zone: choose(zone, year) for zone in sorted(zones)},
        mappings[-1] if mappings else DEFAULT_MAPPING,
        [one.contract for one in sources.factors.contracts() if one.withdrawn_unix_milliseconds is None],
        known,
        "simulated" if sources.reader.data_kind().simulated else "real",
    )


def _refusals(
    sources: Sources,
    settings: CollectorSettings,
    year: int,
    kept: Kept,
    terms: FrozenTerms,
    *,
    from_kept: bool,
) -> list[str]:
    found = list(refusals.of_terms(terms, kept))
    if not from_kept:  # what came in since is in no figure any more
        found += refusals.of_data(year, sources.closings.waiting(year))
        found += refusals.of_inventory(len(sources.inventory.doubts()), sources.inventory.assets(), year)
    return [*found, *refusals.of_coverage(kept, settings.closing.coverage_minimum_ratio)]


def _compared(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name not in _NOT_COMPARED}
