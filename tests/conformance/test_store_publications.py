# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with closed years and publications: revisions are in order, the first
publication stays. ports.ClosedYears, ports.Publications."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from tests.conformance.backends import Backend
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.closed_years import (
    ClosedFile,
    ClosedYear,
    KeptYear,
    YearState,
    pack,
    sha256,
)
from veilleuse.collector.model.publications import Publication, PublicationKind

FILE = ClosedFile(b'{"year":2025}', b'{"cells":[]}', b"signature")
CLOSED = ClosedYear(2025, 1, YearState.CLOSED_PROVISIONAL, 10, sha256(FILE.statistics), sha256(FILE.content))
KEPT = KeptYear(2025, date(2026, 2, 1), True, False, sha256(FILE.statistics))
MONTH = Publication(PublicationKind.RELEASE, date(2026, 1, 1), date(2026, 2, 1), 2, 10, "0.2", 10, '{"a":1}')
FEBRUARY = replace(MONTH, first=date(2026, 2, 1), end=date(2026, 3, 1))


def test_revisions_of_a_year_come_in_order_with_their_bytes(store: Backend):
    """A revision that is not the next is refused; a definitive one makes the year definitive."""
    definitive = replace(CLOSED, revision=2, state=YearState.CLOSED_DEFINITIVE)
    with pytest.raises(AdminError):
        store.closings.put(definitive, pack(FILE))
    store.closings.put(CLOSED, pack(FILE))
    assert store.closings.definitive_years() == frozenset()
    store.closings.put(definitive, pack(FILE))
    assert store.closings.revisions() == store.closings.revisions(2025) == (CLOSED, definitive)
    assert store.closings.revisions(2024) == ()
    assert store.closings.file(definitive) == FILE
    assert store.closings.definitive_years() == frozenset({2025})


def test_statistics_of_an_open_year_are_replaced_and_end_with_its_closing(store: Backend):
    """The last statistics replace earlier ones; a closed year accepts none."""
    store.closings.keep(replace(KEPT, kept_on=date(2026, 1, 2)), pack(FILE))
    store.closings.keep(KEPT, pack(FILE))
    assert store.closings.kept_years() == (KEPT,)
    assert store.closings.kept_file(KEPT) == replace(FILE, signature=b"")
    store.closings.put(CLOSED, pack(FILE))
    assert store.closings.kept_years() == ()
    with pytest.raises(AdminError):
        store.closings.keep(KEPT, pack(FILE))


def test_the_first_publication_of_a_period_stays(store: Backend):
    """A second publication of the same kind and period is refused; another period is accepted."""
    assert store.publications.put(MONTH)
    assert not store.publications.put(replace(MONTH, content='{"a":2,"b":3}'))
    assert store.publications.put(FEBRUARY)
    found = store.publications.summaries()
    assert [(one.first, one.content_bytes) for one in found] == [(MONTH.first, 7), (FEBRUARY.first, 7)]


def test_publications_are_taken_back_and_expire(store: Backend):
    """Publications inside a period are taken back; those that ended by a day or are of a year expire."""
    store.publications.put(MONTH)
    store.publications.put(FEBRUARY)
    assert store.publications.take_back(date(2026, 1, 2), date(2026, 2, 20)) == 0
    assert store.publications.take_back(MONTH.first, MONTH.end) == 1
    assert store.publications.expire(date(2026, 2, 28), ()) == 0
    assert store.publications.expire(date(2020, 1, 1), (2026,)) == 1
    assert store.publications.summaries() == ()
