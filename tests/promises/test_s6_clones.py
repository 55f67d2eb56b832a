# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S6: machines are started from the image of an enrolled one. docs/wire.md §7."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from tests.promises.support.clones import Machine, Room, room
from tests.support.fakes.agent import record
from veilleuse.agent.spool.database import connect

FINE = {
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "10",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "60",
    "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "30",
}


def stored(room: Room, query: str) -> list[tuple[object, ...]]:
    """Return rows of the collector's database."""
    with closing(sqlite3.connect(f"file:{room.stack.data / 'data.db'}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


def hosts_by_watts(room: Room) -> dict[int, set[str]]:
    """Return power in W → agent ids that delivered it. A mixed record would have the power of no machine."""
    rows = stored(
        room,
        "SELECT hex(hosts.agent_id), energy_millijoules, covered_milliseconds FROM point_sums "
        "JOIN hosts USING (host_id) WHERE grain = 1",
    )
    found: dict[int, set[str]] = {}
    for agent_id, energy, covered in rows:
        assert isinstance(energy, int)
        assert isinstance(covered, int)
        found.setdefault(round(energy / covered), set()).add(str(agent_id).lower())
    return found


Result = TypeVar("Result")


def everyone(machines: list[Machine], work: Callable[[Machine], Result]) -> list[Result]:
    """Run `work` on all machines at once."""
    with ThreadPoolExecutor(len(machines)) as pool:
        return list(pool.map(work, machines))


@pytest.mark.promise("S6")
def test_five_clones(tmp_path, figure):
    """Five clones that contact at once, with a token that admits copies, get five new ids.

    Each id has its own records only, and the operator sees it as a copy.
    """
    with room(tmp_path) as made:
        made.start_collector()
        template = made.template
        assert template.run("enrol", str(made.join_file(6, "--admit-copies"))).returncode == 0
        _measure(template)
        clones = made.image(5)
        began = time.monotonic()
        assert {done.returncode for done in everyone(clones, lambda clone: clone.run("run", "--check"))} == {
            0
        }
        for clone in clones:
            _measure(clone)
        sent = everyone([template, *clones], lambda machine: machine.run("send"))
        seconds = time.monotonic() - began
        assert [done.returncode for done in sent] == [0] * 6, [done.stderr for done in sent]
        ids = {machine.watts: machine.agent_id() for machine in (template, *clones)}
        mixed = _mixed(made, ids)
        figure(
            f"{len(set(ids.values())) - 1} distinct ids of 5 clones in {seconds:.0f} s, {mixed} samples mixed"
        )
        assert len(set(ids.values())) == 6
        assert mixed == 0
        assert _copies(made, template) == 5


@pytest.mark.promise("S6")
def test_five_clones_wait_for_the_operator(tmp_path, figure):
    """By default all clones wait, and the operator sees their original; one command admits them.

    Every minute that each measured before, while it waited and after is stored under its own id.
    """
    with room(tmp_path) as made:
        made.start_collector()
        template = made.template
        assert template.run("enrol", str(made.join_file(9))).returncode == 0
        clones = made.image(5)
        assert {done.returncode for done in everyone(clones, lambda clone: clone.run("run", "--check"))} == {
            0
        }
        for _ in range(2):
            for clone in clones:
                _measure(clone)
            waiting = everyone(clones, lambda clone: clone.run("send"))
            assert all("waits for an operator's approval" in done.stderr for done in waiting), waiting
        pending = [host for host in made.hosts() if host["status"] == "pending"]
        assert {host["copy_of"] for host in pending} == {template.agent_id()}
        assert len(pending) == 5
        assert hosts_by_watts(made) == {}
        made.stack.must("veilleuse", "hosts", "activate", "--copies-of", template.agent_id()[:12])
        for clone in clones:
            _measure(clone)
        assert [done.returncode for done in everyone(clones, lambda clone: clone.run("send"))] == [0] * 5
        ids = {machine.watts: machine.agent_id() for machine in (template, *clones)}
        kept, mixed = _minutes(made), _mixed(made, ids)
        figure(
            f"5 of 5 clones waited by default, 1 command admitted them, {kept} of 15 minutes kept, {mixed} samples mixed"
        )
        assert len(set(ids.values())) == 6
        assert kept == 15
        assert mixed == 0


@pytest.mark.promise("S6")
@pytest.mark.long
def test_fifty_clones(tmp_path, figure):
    """Fifty services started at once from one image get 50 distinct ids within 2 min; 0 samples are mixed.

    The token admits copies, and the original runs on.
    """
    with room(tmp_path, FINE) as made:
        made.start_collector()
        template = made.template
        assert template.run("enrol", str(made.join_file(51, "--admit-copies"))).returncode == 0
        service = template.start("run")
        made.stack.wait_for(
            lambda: _has_rows(template), "the template measures", seconds=150, process=service
        )
        made.stack.stop(service)
        assert _has_rows(template)
        clones = made.image(50)
        began = time.monotonic()
        for machine in (*clones, template):
            machine.start("run")
        made.stack.wait_for(
            lambda: all(clone.agent_id() not in ("", template.agent_id()) for clone in clones),
            "every clone has an identity of its own",
            seconds=240,
        )
        seconds = time.monotonic() - began
        ids = {machine.watts: machine.agent_id() for machine in (template, *clones)}
        made.stack.wait_for(
            lambda: set(hosts_by_watts(made)) >= set(ids), "everyone has delivered", seconds=240
        )
        distinct, mixed = len({clone.agent_id() for clone in clones}), _mixed(made, ids)
        figure(f"{distinct} distinct ids of 50 clones in {seconds:.0f} s, {mixed} samples mixed")
        assert distinct == 50
        assert seconds < 120
        assert mixed == 0
        assert _copies(made, template) == 50


def _measure(machine: Machine) -> None:
    """Add a minute at the machine's own power to its spool."""
    with closing(connect(machine.state / "spool.db")) as db:
        body = record(machine.watts, energy_millijoules=machine.watts * 60_000).to_json()
        db.execute("INSERT INTO pending (body) VALUES (?)", (body,))


def _has_rows(machine: Machine) -> bool:
    path: Path = machine.state / "spool.db"
    if not path.exists():
        return False
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        waiting = db.execute("SELECT (SELECT count(*) FROM pending) + (SELECT count(*) FROM outbox)")
        return bool(waiting.fetchone()[0])


def _minutes(made: Room) -> int:
    """Return the number of stored minutes."""
    ((milliseconds,),) = stored(
        made, "SELECT coalesce(sum(covered_milliseconds), 0) FROM point_sums WHERE grain = 1"
    )
    assert isinstance(milliseconds, int)
    return milliseconds // 60_000


def _mixed(made: Room, ids: dict[int, str]) -> int:
    """Count the identities that have energy of another machine's power."""
    found = hosts_by_watts(made)
    wrong = [(watts, who) for watts, holders in found.items() for who in holders if ids.get(watts) != who]
    return len(wrong)


def _copies(made: Room, template: Machine) -> int:
    """Count the machines that the operator sees as copies of the template."""
    return sum(1 for host in made.hosts() if host.get("copy_of") == template.agent_id())
