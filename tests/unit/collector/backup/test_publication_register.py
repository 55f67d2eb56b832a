# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the file of publications: what a restored collector reads back, and what it must never publish."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import clock
from tests.support.filled import Filled, week
from tests.support.filled import cell as filled_cell
from tests.support.machines import settings_in
from tests.support.pushes import HOUR
from tests.support.rolled import roll
from tests.unit.collector.cli.test_published import GOLDEN
from tests.unit.collector.cli.test_published import publish as publish_last
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.backup import publication_lines
from veilleuse.collector.backup.notes import RESTORE_NOTE
from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.errors import AdminError, StoreFailing
from veilleuse.collector.model.publications import HOLD_NOTE, PublicationHold
from veilleuse.collector.release.publications import held_months
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.wire.vocabulary import DeviceClass, Population, State

OTHER = GOLDEN.replace('"hosts":12', '"hosts":13')
END = (clock.today().replace(day=1) - timedelta(days=1)).replace(day=1)
FIRST = (END - timedelta(days=1)).replace(day=1)
"""A month that was due before today."""
DATABASES = ("data.db", "identity.db")


def publish(collector: Collector, content: str = GOLDEN, **changed: Any) -> Any:
    """Publish the month."""
    month = {"first": FIRST.isoformat(), "end": END.isoformat()}
    return publish_last(collector, content, **(month | changed))


class Place:
    """A data directory whose databases can be set back, as a restore does it."""

    def __init__(self, folder: Path) -> None:
        self.settings: CollectorSettings = settings_in(folder)
        self.copy = folder / "copy"
        initialise(self.settings, site="Lyon")
        self.file = self.settings.data_dir / "register.jsonl.publications"

    @contextmanager
    def opened(self) -> Iterator[Collector]:
        """Open the collector."""
        with open_collector(self.settings) as collector:
            yield collector

    def backup(self) -> None:
        """Copy the databases."""
        self.copy.mkdir(exist_ok=True)
        for name in DATABASES:
            shutil.copy(self.settings.data_dir / name, self.copy / name)

    def restore(self, moment: int = 0) -> None:
        """Put the copied databases back, with the note of a restore."""
        for name in DATABASES:
            for left in self.settings.data_dir.glob(f"{name}-*"):
                left.unlink()
            shutil.copy(self.copy / name, self.settings.data_dir / name)
        with closing(Database(self.settings.data_dir / "data.db", writing=True)) as database:
            note = (RESTORE_NOTE, str(moment or clock.unix_milliseconds()))
            database.write("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", *note)  # fmt: skip

    def publish(self, content: str = GOLDEN, **changed: Any) -> None:
        """Publish the month."""
        with self.opened() as collector:
            publish(collector, content, **changed)

    def contents(self) -> list[str]:
        """Return the contents that readers get."""
        with self.opened() as collector:
            store = collector.store.publications
            found = [store.find(one.kind, one.first, one.end) for one in store.summaries()]
            return [one.content for one in found if one is not None]

    def fault(self) -> str:
        """Return what the next start says of the file."""
        with self.opened() as collector:
            return collector.start.publications.read_back.trouble


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Make a collector whose backup is older than its publication."""
    made = Place(tmp_path)
    with made.opened():
        pass
    made.backup()
    made.publish()
    return made


def held(place: Place) -> None:
    """Assert that the last month stays unpublished, and later ones do not."""
    with place.opened() as collector:
        with pytest.raises(AdminError, match="stays unpublished since the restore"):
            publish(collector, OTHER)
        hold = collector.store.publications
        assert hold.summaries() == ()
        assert collector.operations.context.published.hold is not None
        under_way = clock.today().replace(day=1)
        assert not collector.operations.context.published.hold.covers(under_way, add_months(under_way, 1))


def test_a_restore_reads_back_what_was_published(place):
    """The first content comes back to the byte, and another one is not stored; the file is private."""
    assert place.file.stat().st_mode & 0o777 == 0o600
    place.restore()
    assert place.contents() == [GOLDEN]
    place.publish(OTHER)
    assert place.contents() == [GOLDEN]


def test_a_copy_may_be_older_than_the_last_publication(place):
    """A month that was due before the restore and is not in a whole file stays unpublished: the file may be a
    copy from before its publication. One that was not due is published."""
    whole = place.file.read_bytes()
    place.file.write_bytes(whole.splitlines(keepends=True)[0])
    place.restore()
    assert place.fault() == ""
    with place.opened() as collector, pytest.raises(AdminError, match="stays unpublished"):
        publish(collector, OTHER)
    due = round(datetime(END.year, END.month, 2, tzinfo=UTC).timestamp() * 1000)
    place.file.write_bytes(whole.splitlines(keepends=True)[0])
    place.restore(due)
    place.publish(OTHER)
    assert place.contents() == [OTHER]


def test_a_take_back_is_read_back(place):
    """After a take-back and another publication, a restore of either backup gives the second content."""
    place.backup()
    with place.opened() as collector:
        asked = {"first": FIRST.isoformat(), "end": END.isoformat(), "who": "w", "why": "wrong"}
        collector.operations.perform("published_take_back", asked)
    place.restore()
    assert place.contents() == []
    with place.opened() as collector:
        collector.operations.perform("published_allow", asked)
        publish(collector, OTHER)
    place.restore()
    assert place.contents() == [OTHER]


def test_killed_between_the_file_and_the_store(place, monkeypatch):
    """A content that was noted but not stored is what is stored later, at once or after a restart."""
    place.restore()
    place.file.unlink()
    for restart in (False, True):
        shutil.rmtree(place.settings.data_dir)
        initialise(place.settings, site="Lyon")
        with place.opened() as collector:
            with monkeypatch.context() as patched:
                patched.setattr(type(collector.store.publications), "put", _fail)
                with pytest.raises(StoreFailing):
                    publish(collector)
            if not restart:
                publish(collector, OTHER)
        assert place.contents() == [GOLDEN]


def _fail(*_: object) -> bool:
    raise StoreFailing("the disk is gone")


def test_what_cannot_be_noted_is_not_published(place, monkeypatch):
    """On a full disk nothing is stored, the file keeps its lines, and the next try publishes."""
    size = place.file.stat().st_size
    with place.opened() as collector:
        with monkeypatch.context() as patched:
            patched.setattr(publication_lines, "_write", _full)
            with pytest.raises(StoreFailing, match="No space left"):
                publish(collector, kind="indicators")
        assert place.file.stat().st_size == size
        assert len(collector.store.publications.summaries()) == 1
        publish(collector, kind="indicators")
    assert len(place.contents()) == 2


def _full(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data[: len(data) // 2])
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("damage", ["missing", "torn", "changed", "cut", "other", "hole"])
def test_a_month_that_may_have_been_published_stays_unpublished(place, damage, tmp_path):
    """Where the file is missing, torn, changed inside, shorter than the backup knows, another collector's, or
    lacks a line, the last month stays unpublished, also after a second restore with what is there then."""
    if damage in ("cut", "hole"):
        for kind in ("indicators", "own_use"):
            place.publish(kind=kind)
        if damage == "cut":
            place.backup()
            with closing(Database(place.copy / "data.db", writing=True)) as database:
                database.write("DELETE FROM published_periods")
    lines = place.file.read_bytes().splitlines(keepends=True)
    changed = {
        "torn": [*lines[:-1], lines[-1][:-9]],
        "changed": [*lines[:-1], lines[-1].replace(b"laptop", b"tower!")],
        "cut": lines[:1],
        "hole": [*lines[:2], lines[-1]],
    }
    if damage in changed:
        place.file.write_bytes(b"".join(changed[damage]))
    else:
        place.file.unlink()
    if damage == "other":
        other = Place(tmp_path / "other")
        other.publish()
        shutil.copy(other.file, place.file)
    place.restore()
    if damage == "hole":
        assert place.fault() == "lines of it are missing"
        with place.opened() as collector, pytest.raises(AdminError, match="stays unpublished"):
            publish(collector, OTHER, kind="indicators")
        return
    held(place)
    place.restore(clock.unix_milliseconds() + 1)
    held(place)


def test_the_word_of_an_operator_publishes(place):
    """With a reason, in the access journal, a held month is published; without one it is not."""
    place.file.unlink()
    place.restore()
    asked = {"first": FIRST.isoformat(), "end": END.isoformat(), "who": "w"}
    with place.opened() as collector:
        for wrong in ({"why": " "}, {"why": "x", "first": END.isoformat()}):
            with pytest.raises(AdminError):
                collector.operations.perform("published_allow", asked | wrong)
        collector.operations.perform("published_allow", asked | {"why": "never published"})
        assert publish(collector, OTHER) == {"kept": True}
        rows = collector.store.identity.connection.execute("SELECT what, why FROM journal").fetchall()
    assert (f"published {FIRST} to {END} allowed after a restore", "never published") in rows
    place.restore(clock.unix_milliseconds() + 1)
    assert place.contents() == [OTHER]


def test_a_file_that_is_put_back_late_is_read(place):
    """After a start without the file, its return gives back what it holds."""
    kept = place.file.read_bytes()
    place.file.unlink()
    place.restore()
    held(place)
    place.file.write_bytes(kept)
    assert place.contents() == [GOLDEN]


def test_a_file_that_cannot_be_read_publishes_nothing(place):
    """Where the path is a folder, nothing is published until it is the file again."""
    kept = place.file.read_bytes()
    place.file.unlink()
    place.file.mkdir()
    place.restore()
    with place.opened() as collector:
        assert collector.start.publications.read_back.trouble
        with pytest.raises(StoreFailing, match="could not be read at the start"):
            publish(collector, OTHER)
    place.file.rmdir()
    place.file.write_bytes(kept)
    place.file.chmod(0o600)
    assert place.contents() == [GOLDEN]


def test_it_does_not_grow_for_ever(place, monkeypatch):
    """A publication that is replaced leaves its last line alone; lines of other collectors stay."""
    monkeypatch.setattr("veilleuse.collector.backup.publication_register.SPARE_BYTES", 2_000)
    foreign = place.file.read_bytes().replace(b'"of":', b'"of":1')
    with place.opened() as collector:
        for number in range(20):
            publish(collector, json.dumps({"rows": number, "fill": "x" * 500}), kind="fleet")
    assert place.file.stat().st_size < 2 * (len(GOLDEN) + 500) + 6_000
    place.restore()
    assert sorted(place.contents()) == sorted(['{"rows": 19, "fill": "' + "x" * 500 + '"}', GOLDEN])
    assert foreign not in place.file.read_bytes()


def test_no_month_before_the_fleet_is_named(tmp_path):
    """The first week of a fleet that began on 2 January 2026 begins on 29 December. Nothing of December was
    ever published: neither `restore` nor `doctor` names it."""
    with Filled(tmp_path / "data") as data:
        host = data.add_host(Population.WORKSTATION, DeviceClass.TOWER, enrolled_on=date(2026, 1, 2))
        weeks = (date(2025, 12, 29), date(2026, 1, 12), date(2026, 2, 9))
        data.push(host, [(week(day), [filled_cell(State.ON_IDLE, HOUR, busy_ratio=0.01)]) for day in weeks])
        data.derive()
        roll(data, date(2026, 3, 10))
        data.store.registry.put_meta(HOLD_NOTE, PublicationHold(date(2026, 3, 10), "it is lost").to_json())
    with open_reader(tmp_path / "data") as store:
        assert store.closings.has_months(date(2025, 12, 1), date(2026, 1, 1), (Population.WORKSTATION,))
        named = held_months(store.publications, store.closings, store.data.hosts, date(2025, 1, 1))
    assert named == (date(2026, 1, 1), date(2026, 2, 1))
