# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of what the running collector counts of itself, and stores by day."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import date

import pytest

from tests.support.receiving import hello, stream_request
from veilleuse.collector.ingest.counters import Count, Health
from veilleuse.collector.ingest.own_use import OwnUse, tree_cpu_milliseconds
from veilleuse.collector.model.months import OWN_CPU
from veilleuse.collector.model.publications import Publication, PublicationKind
from veilleuse.collector.settings import Store
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.wire.vocabulary import Population

_BURN = "import os,sys\nwhile sum(os.times()[:2]) < 0.5: pass\nprint(flush=True)\nsys.stdin.read()"


def test_children_count_while_they_run_and_after_their_end():
    """The web process and the gateway run for months: their time is not only that of ended children."""
    before = tree_cpu_milliseconds()
    with subprocess.Popen(
        [sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        assert one.stdout is not None
        one.stdout.readline()
        running = tree_cpu_milliseconds()
    assert running - before >= 490
    assert tree_cpu_milliseconds() >= running


def test_what_is_taken_is_counted_once_and_given_back():
    """A note that could not be stored is in the next one; the time never falls."""
    health, times = Health(), [300, 200]
    own = OwnUse(health, read_cpu=lambda: times.pop())
    health.count(Count.RECEIVED_BYTES, "server", 10)
    assert own.take() == {"own_cpu_milliseconds": 200, "server_received_bytes": 10}
    assert own.take() == {}
    health.count(Count.RECEIVED_BYTES, "server", 5)
    used = own.take()
    own.give_back(used)
    assert own.take() == used == {"server_received_bytes": 5}


def test_only_bytes_of_servers_are_counted(service):
    """Each message of a server and its answer count; of a PC they would tell its days in contact."""
    whole = Counter[str]()
    for population in Population:
        stub, stream = service.agent(population)
        asked = hello(stream)
        answer = stub.Hello(asked)
        pushed = stream_request(stream)
        stored = stub.Push(pushed)
        if population is Population.SERVER:
            whole["received_bytes"] = asked.ByteSize() + pushed.ByteSize()
            whole["sent_bytes"] = answer.ByteSize() + stored.ByteSize()
    counts = service.health.snapshot()
    assert {name: counts[name] for name in whole} == {name: {"server": size} for name, size in whole.items()}
    assert set(OwnUse(service.health).take()) <= {OWN_CPU, *(f"server_{name}" for name in whole)}


def test_days_add_up_and_a_month_before_the_first_one_is_not_known(tmp_path):
    """A month in which counting began would be too low. Days of 62 days ago are deleted once their month is
    published, those of 93 days ago always."""
    first = date(2026, 3, 1)
    with closing(
        create_store(tmp_path / "data", Store(free_bytes_minimum=0), simulated=True, now_unix_milliseconds=1)
    ) as store:
        store.note_own_use(first, {"own_cpu_milliseconds": 1, "server_sent_bytes": 2})
        store.note_own_use(first, {"own_cpu_milliseconds": 3})
        store.note_own_use(date(2026, 3, 31), {})
        with closing(SqliteReader(tmp_path / "data")) as reader:
            month = {"own_cpu_milliseconds": 4, "server_sent_bytes": 2}
            assert reader.own_use(first, date(2026, 4, 1)) == month
            assert reader.own_use(date(2026, 2, 28), date(2026, 4, 1)) is None
            store.note_own_use(date(2026, 6, 2), {})
            assert reader.own_use(first, date(2026, 4, 1)) == month
            store.publications.put(
                Publication(PublicationKind.OWN_USE, first, date(2026, 4, 1), 1, 10, "", 1, "{}")
            )
            store.note_own_use(date(2026, 5, 3), {})
            assert reader.own_use(first, date(2026, 4, 1)) is None
            store.note_own_use(date(2026, 3, 31), {})
            assert reader.own_use(date(2026, 3, 31), date(2026, 4, 1)) == {"own_cpu_milliseconds": 0}


@pytest.mark.parametrize("population", [Population.WORKSTATION, Population.CLASSROOM])
def test_the_database_has_no_place_for_bytes_of_pcs(tmp_path, population):
    """Not even a defect of the collector can store them."""
    with (
        closing(
            create_store(
                tmp_path / "data", Store(free_bytes_minimum=0), simulated=True, now_unix_milliseconds=1
            )
        ) as store,
        pytest.raises(sqlite3.IntegrityError, match="CHECK"),
    ):
        store.note_own_use(date(2026, 3, 1), {f"{population}_received_bytes": 787})
