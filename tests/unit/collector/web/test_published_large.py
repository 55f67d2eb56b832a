# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of released months of thousands of groups: sent in pieces, decoded within bounds, completed."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from tests.support.filled import Filled
from tests.support.machines import settings_in
from tests.unit.collector.cli.test_published import (
    END,
    FIRST,
    GOLDEN,
    KEY,
    MONTH,
    NOW,
    last_month,
    publication,
)
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.errors import AdminError
from veilleuse.collector.ipc import MAX_REQUEST_BYTES
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.sums import EnergySums, Group, GroupSums, StateSums
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.publications import PublicationCache, publisher
from veilleuse.collector.release.tables import Month
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.publications import SqlitePublicationReader
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, State


def large_month(groups: int, first: date, end: date) -> Month:
    """Return a month of so many groups with distinct sums, so that it does not compress."""
    drawn = random.Random(1)

    def sums() -> GroupSums:
        (one,) = MONTH.cells
        return replace(
            one.sums,
            states={
                (band, state): StateSums(*(drawn.randrange(10**12) for _ in range(4)))
                for band in Band
                for state in State
            },
            energies={
                (DeviceClass.LAPTOP, Method.LOAD_MODELLED, band, state): EnergySums(
                    *(drawn.randrange(10**12) for _ in range(3))
                )
                for band in Band
                for state in State
            },
        )

    key = KEY._replace(period_from=first, period_to=end)
    return Month(
        Slice(first, end),
        tuple(Group(key._replace(entity=f"Lyon > {number}"), sums()) for number in range(groups)),
        (),
        (),
        (),
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[CollectorSettings]:
    """Run a collector that answers on its socket, and return its settings."""
    settings = settings_in(tmp_path)
    initialise(settings, site="Lyon")
    with (
        open_collector(settings) as collector,
        closing(AdminServer(settings.data_dir, collector.operations)),
    ):
        yield settings


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Filled]:
    """Return a store as of NOW."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as filled:
        yield filled


def test_a_month_of_many_groups_is_published(served):
    """A month of 2,000 groups, longer than a line of the socket, is kept and read unchanged."""
    first, end = last_month()
    month = large_month(2_000, first, end)
    with closing(SqlitePublicationReader(served.data_dir)) as reader:
        web = PublicationCache(FORM, reader, publisher(served.data_dir), 10)
        assert web.figures(first, end, end, lambda: month) == month
        kept = reader.find(PublicationKind.RELEASE, first, end)
    assert kept is not None
    assert len(kept.content) > 3 * MAX_REQUEST_BYTES
    with closing(SqlitePublicationReader(served.data_dir)) as reader:
        assert (
            PublicationCache(FORM, reader, publisher(served.data_dir), 10).figures(first, end, end, None)
            == month
        )


def test_many_who_publish_at_once_answer_the_same(served):
    """Four processes publish a large month each: one is kept, whole, and all answer with it. A reader
    meanwhile gets none or that one."""
    first, end = last_month()
    month = large_month(600, first, end)
    mine = [replace(month, cells=month.cells[number:]) for number in range(4)]
    answers: list[Month | None] = []
    seen: list[Month | None] = []
    begin, done = threading.Barrier(5), threading.Event()

    def publishes(number: int) -> None:
        with closing(SqlitePublicationReader(served.data_dir)) as reader:
            web = PublicationCache(FORM, reader, publisher(served.data_dir), 10)
            begin.wait()
            answers.append(web.figures(first, end, end, lambda: mine[number]))

    def reads() -> None:
        begin.wait()
        while not done.is_set():
            with closing(SqlitePublicationReader(served.data_dir)) as reader:
                seen.append(PublicationCache(FORM, reader, publisher(served.data_dir), 10).read(first, end))

    threads = [threading.Thread(target=publishes, args=(number,)) for number in range(4)]
    onlooker = threading.Thread(target=reads)
    for thread in (*threads, onlooker):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    onlooker.join()
    assert len(answers) == 4
    assert answers[0] in mine
    assert answers == [answers[0]] * 4
    assert [one for one in seen if one is not None and one != answers[0]] == []


def test_a_month_that_may_not_be_kept_is_not_sent(served, monkeypatch):
    """The error has the permitted size, and nothing is kept."""
    first, end = last_month()
    monkeypatch.setattr("veilleuse.collector.release.publications.MAXIMUM_BYTES", 9_999)
    with closing(SqlitePublicationReader(served.data_dir)) as reader:
        web = PublicationCache(FORM, reader, publisher(served.data_dir), 10)
        with pytest.raises(AdminError, match="9999 at most may be kept"):
            web.figures(first, end, end, lambda: large_month(20, first, end))
        assert web.read(first, end) is None


def test_large_months_are_not_kept_in_memory(data, monkeypatch):
    """Decoded months are bounded; one that was withdrawn and published again is read again."""
    monkeypatch.setattr("veilleuse.collector.release.publications.DECODED_BYTES", 2 * len(GOLDEN))
    store = data.store.publications
    for day in (1, 2, 3):
        store.put(publication(first=date(2026, 10, day), published_unix_milliseconds=day))
    with closing(SqlitePublicationReader(data.directory)) as reader:
        web = PublicationCache(FORM, reader, lambda _: None, 10)
        for day in (1, 2, 3):
            found = web.read(date(2026, 10, day), END)
            assert found is not None
            assert (web.read(date(2026, 10, day), END) is found) is True
        assert [told.first.day for told in web._decoded] == [2, 3]
        store.take_back(FIRST, END)
        other = GOLDEN.replace('"hosts":12', '"hosts":13')
        store.put(publication(other, first=date(2026, 10, 3), published_unix_milliseconds=9))
        found = web.read(date(2026, 10, 3), END)
        assert found is not None
        assert found.cells[0].sums.hosts == 13
