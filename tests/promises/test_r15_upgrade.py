# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R15: agents and collectors of two releases work in every pair, and are upgraded while records arrive."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.promises.support.previous import COMMANDS, VERSION, Feeder, Fleet, install

COLLECTOR, AGENT = COMMANDS
RUNNING = {
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "2",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
    "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "10",
}
STEP = 250
"""Records to receive before the next change."""


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the previous release's programs."""
    return install(tmp_path_factory.mktemp("previous"))


@pytest.fixture
def fleet(tmp_path: Path, previous: Path) -> Iterator[Fleet]:
    """Yield an enrolled agent with its spool and a running collector, both of the previous release."""
    with Fleet(tmp_path, previous) as made:
        made.serving = made.start_collector()
        made.enrol()
        made.must("veilleuse-agent", "send")
        yield made


@pytest.mark.promise("R15")
def test_a_spool_of_the_previous_release_goes_on(fleet, figure):
    """This agent delivers a spool of the previous one to a previous collector, then to one of this version.

    The spool has acknowledged, numbered and unnumbered rows. The previous agent is still served then.
    """
    fleet.feed(300)
    fleet.drain()
    assert fleet.stop(fleet.serving) == 0
    fleet.feed(300)
    assert fleet.run("veilleuse-agent", "send").returncode == 1  # numbers the records, reaches no collector
    fleet.feed(300)
    fleet.use_present(AGENT)
    fleet.serving = fleet.start_collector()
    fleet.drain()
    assert fleet.stop(fleet.serving) == 0
    fleet.use_present(COLLECTOR)
    fleet.feed(300)
    fleet.start_collector()
    fleet.drain()
    fleet.use_previous(AGENT)
    fleet.feed(300)
    fleet.drain()
    figure(f"{fleet.compare()} with a spool of {VERSION} under this version, and back")


@pytest.mark.promise("R15")
def test_a_collector_does_not_go_back_but_its_backup_does(fleet, figure):
    """A collector refuses files of a later schema with one line that says what to install.

    With a copy from before the upgrade it serves again, and the agent sends the records that the copy lacks.
    Files of its own schema it serves.
    """
    fleet.feed(300)
    fleet.drain()
    assert fleet.stop(fleet.serving) == 0
    shutil.copytree(fleet.data, fleet.folder / "copy")
    fleet.use_present(*COMMANDS)
    fleet.serving = fleet.start_collector()
    fleet.feed(300)
    fleet.drain()
    assert fleet.stop(fleet.serving) == 0
    fleet.use_previous(COLLECTOR)
    known = schema(fleet.folder / "copy")
    if later := schema(fleet.data) > known:
        refused = fleet.run("veilleuse", "serve")
        assert refused.returncode == 1
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("veilleuse: ")]
        assert f"knows {known}: install the version of veilleuse that wrote it, or a newer one" in line
        shutil.rmtree(fleet.data)
        shutil.copytree(fleet.folder / "copy", fleet.data)
    fleet.start_collector()
    fleet.must("veilleuse-agent", "send")
    fleet.drain()
    figure(
        f"{fleet.compare()} {'from a copy after a refused' if later else 'after a'} downgrade to {VERSION}"
    )


def schema(data: Path) -> int:
    """Return the schema's version in data.db."""
    with closing(sqlite3.connect(data / "data.db")) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.long
@pytest.mark.promise("R15")
@pytest.mark.parametrize("first", [COLLECTOR, AGENT])
def test_both_are_upgraded_while_records_flow(first, tmp_path, previous, figure):
    """No record is lost or duplicated when both services are upgraded while they run, either one first."""
    with Fleet(tmp_path, previous, **RUNNING) as fleet:
        running = {COLLECTOR: fleet.start_collector()}
        fleet.enrol()
        running[AGENT] = fleet.start("veilleuse-agent", "run")
        fleet.wait_for(lambda: (fleet.state / "spool.db").exists(), "the spool is there")
        fleet.wait_for(lambda: fleet.received() >= 1, "a record of the agent's own", seconds=60)
        with Feeder(fleet, fleet.bodies(2_400)):
            for which in (first, *(other for other in COMMANDS if other != first)):
                flow(fleet)
                upgrade(fleet, which, running)
            flow(fleet)
        fleet.wait_for(lambda: fleet.waiting() == 0, "all is delivered", seconds=120)
        assert fleet.stop(running[AGENT]) == 0
        fleet.drain()
        assert fleet.stop(running[COLLECTOR]) == 0
        figure(f"{fleet.compare()} when {first} is upgraded first")


def flow(fleet: Fleet) -> None:
    """Wait for the next STEP records."""
    enough = fleet.received() + STEP
    fleet.wait_for(lambda: fleet.received() >= enough, f"{STEP} records more", seconds=90)


def upgrade(fleet: Fleet, which: str, running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Stop the service of that name, and start it in this version on the same files."""
    assert fleet.stop(running[which]) == 0
    fleet.use_present(which)
    running[which] = fleet.start_collector() if which == COLLECTOR else fleet.start("veilleuse-agent", "run")
