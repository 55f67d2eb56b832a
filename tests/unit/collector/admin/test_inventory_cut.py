# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A killed import applies whole or not at all, and uploads in pieces are bounded."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.killing import run_program
from veilleuse.collector.admin.context import KEPT_SECONDS, Uploads
from veilleuse.collector.errors import AdminError, UsageError

PROGRAM = r"""
import shutil, signal, sys
from contextlib import closing
from pathlib import Path
from tests.support.killing import dies_at, in_child
from tests.support.machines import settings_in
from veilleuse.collector.store.sqlite.inventory import SqliteInventoryReader
from veilleuse.collector.store import create_store, open_store
from veilleuse.collector import settings
from veilleuse.collector.inventory import read_files
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.plan import plan
from datetime import date

OURS = ("/store/sqlite/inventory", "/store/sqlite/connection.py")
LIMITS = settings.Store(free_bytes_minimum=0)
HEAD = "ID;Nom;Entité;Numéro de série;Type\n"
FIRST = HEAD + "".join(f"{n};OLD{n};A;SN{n}X;Tower\n" for n in range(1, 21))
SECOND = HEAD + "".join(f"{n};NEW{n};B > C;SN{n}X;Portable\n" for n in range(1, 41))


def bring(store, text, day):
    reading = read_files([("parc.csv", text.encode())], InventoryMapping(), form="glpi_csv")
    made = plan(reading, store.inventory.snapshot(), day, lambda mark: mark.encode().ljust(32, b"_"))
    if made.change is not None:
        store.inventory.apply(made.change)
    return made


def new(folder):
    with closing(create_store(folder, LIMITS, simulated=False, now_unix_milliseconds=1)) as store:
        bring(store, FIRST, date(2026, 1, 1))


def cut(folder, line):
    store = open_store(folder, LIMITS)  # until here nothing is counted
    seen = dies_at(line, OURS)
    bring(store, SECOND, date(2026, 2, 1))
    sys.settrace(None)
    (folder.parent / "lines").write_text(str(seen()))


def seen(folder):
    # what both files say, as a reader and the next import see it
    with closing(open_store(folder, LIMITS)) as store:
        kept = store.inventory.snapshot()
    with closing(SqliteInventoryReader(folder)) as reader:
        assets = reader.assets()
    names = {one.name[:3] for one in kept.assets}
    classes = {one.device_class for one in assets}
    assert len(kept.assets) == len(assets), (len(kept.assets), len(assets))
    state = (len(assets), tuple(sorted(names)), tuple(sorted(classes)), tuple(one.name for one in kept.entities))
    return state


BEFORE = (20, ("OLD",), ("tower",), ("A",))
AFTER = (40, ("NEW",), ("laptop",), ("A", "B", "B > C"))
folder = Path(sys.argv[1])
pattern, whole = folder / "pattern", folder / "whole"
new(pattern)
shutil.copytree(pattern, whole)
assert in_child(lambda: cut(whole, 0)) == 0
lines = int((folder / "lines").read_text())
assert seen(whole) == AFTER, seen(whole)
found = []
for at in sorted({1, lines // 3, 2 * lines // 3, *range(lines - 60, lines + 1, 5)}):
    here = folder / str(at)
    shutil.copytree(pattern, here)
    assert in_child(lambda: cut(here, at)) == -signal.SIGKILL, at
    state = seen(here)
    assert state in (BEFORE, AFTER), (at, state)
    found.append(state)
    with closing(open_store(here, LIMITS)) as store:
        assert bring(store, SECOND, date(2026, 2, 1)).refused == []
        assert bring(store, SECOND, date(2026, 2, 1)).change is None
    assert seen(here) == AFTER
print(lines, found.count(BEFORE), found.count(AFTER))
"""


@pytest.mark.any_date
def test_an_import_killed_at_any_moment_is_whole_or_nothing(tmp_path: Path):
    """At some 16 lines of the store's import, both files hold the old inventory or the new one, no mixture.
    The same import then completes it, and a second one changes nothing.
    """
    lines, before, after = map(int, run_program(PROGRAM, str(tmp_path)).split()[-3:])
    assert lines > 150
    assert before > 1
    assert after > 1


def test_uploads_are_bounded():
    """One upload at a time, in order, of bounded size; an upload that stops makes room for the next."""
    now = [0.0]
    uploads = Uploads(lambda: now[0], wait_seconds=0)
    one, two = "1" * 32, "2" * 32
    assert uploads.add(one, 0, "YWJj", 10) == 3
    with pytest.raises(AdminError, match="another upload"):
        uploads.add(two, 0, "YWJj", 10)
    for name, number, data in (
        (one, 2, "YWJj"),
        (one, 1, "%"),
        ("x", 0, "YWJj"),
        (two, 1, "YWJj"),
        (one, 1, None),
    ):
        with pytest.raises(UsageError):
            uploads.add(name, number, data, 10)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="more than 5 bytes"):
        uploads.add(one, 1, "YWJj", 5)
    with pytest.raises(UsageError, match="no such upload"):
        uploads.take(one)
    uploads.add(one, 0, "YWJj", 10)
    now[0] += KEPT_SECONDS
    uploads.add(two, 0, "YWJj", 10)
    assert uploads.take(two) == b"abc"
    with pytest.raises(UsageError):
        uploads.take(two)


def test_an_upload_waits_for_the_one_before_it():
    """A year is closed while the collector keeps one: the second upload begins when the first is taken."""
    uploads, one, two = Uploads(), "1" * 32, "2" * 32
    uploads.add(one, 0, "YWJj", 10)
    taking = threading.Timer(0.1, uploads.take, (one,))
    taking.start()
    assert uploads.add(two, 0, "YWJj", 10) == 3
    taking.join()
