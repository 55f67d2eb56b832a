# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run the service with meters: real processes, and a meter from a third party's package
(tests/support/fakes/polled.py)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.fakes.polled import install_file_meter
from tests.support.processes import ran
from tests.support.stack import COMMAND_SECONDS
from tests.support.waiting import PATIENCE_SECONDS, comes, has_ended, until
from veilleuse.agent.model import Record, body_from_json
from veilleuse.agent.sources.snapshot import Publication, read_publication
from veilleuse.agent.spool.database import FILE_NAME, connect

ROOT = Path(__file__).parents[2]
CONFIG = """
[paths]
state = "{folder}/state"
sysfs = "{folder}/sys"
meters = "{folder}/meters.toml"

[measure]
population = "server"
tick_seconds = 1
period_seconds = 10
checkpoint_seconds = 1

[log]
level = "debug"
"""
METER = """
[[meter]]
name = "{name}"
source = "file_meter"
every_seconds = 10
timeout_seconds = {timeout}
file = "{file}"
"""


class Machine:
    """An agent's folder, with its configuration and the files of its meters."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir()
        (folder / "agent.toml").write_text(CONFIG.format(folder=folder))
        install_file_meter(folder / "site")
        roots = [str(ROOT / root) for root in ("agent", "proto", ".")]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*roots, str(folder / "site")])}
        self.processes: list[subprocess.Popen[str]] = []

    def meters(self, **watts: str) -> None:
        """Write meters.toml with one meter for each name, and the file of each meter."""
        (self.folder / "meters.toml").write_text(
            "".join(self.meter(name, 0.5 if text == "hang" else 5.0) for name, text in watts.items())
        )
        for name, text in watts.items():
            self.file(name).write_text(text)

    def meter(self, name: str, timeout_seconds: float = 5.0) -> str:
        """Return the meter's section of meters.toml."""
        return METER.format(name=name, file=self.file(name), timeout=timeout_seconds)

    def file(self, name: str) -> Path:
        """Return the path of the file that a meter reads."""
        return self.folder / f"{name}.watts"

    def command(self, *words: str) -> list[str]:
        """Return an agent's command line with the configuration."""
        program = [sys.executable, "-P", "-m", "veilleuse.agent", words[0]]
        return [*program, "--config", str(self.folder / "agent.toml"), *words[1:]]

    def start(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        process = subprocess.Popen(
            self.command(*words), env=self.environment, stderr=subprocess.PIPE, text=True, **more
        )
        self.processes.append(process)
        return process

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return ran(self.command(*words), env=self.environment, timeout=COMMAND_SECONDS)

    def published(self) -> Publication | None:
        """Return the polling process's publication, or None."""
        with suppress(OSError):
            return read_publication(str(self.state / "published.json"))
        return None

    def poller_of(self, process: subprocess.Popen[str]) -> psutil.Process | None:
        """Return the polling process of a resident, or None."""
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.Error):  # it is ending
                if "poll" in child.cmdline():
                    return child
        return None

    def end(self) -> None:
        """Kill all processes that still run."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Give a machine, and end all its processes."""
    made = Machine(tmp_path)
    yield made
    made.end()


def test_the_service_measures_what_is_polled(machine):
    """The meter's 40 W at the wall reach the records. The polling process ends with the service, and is
    started again when it dies."""
    machine.meters(desk="40", printer="hang", lamp="12")
    service = machine.start("run")
    until(lambda: two_are_read_and_the_printer_hangs(machine.published()))
    first = machine.poller_of(service)
    assert first is not None
    until(lambda: {"desk", "lamp"} <= powers(machine.state).keys(), "no record with them", seconds=120)
    first.kill()
    until(lambda: (machine.poller_of(service) or first).pid != first.pid, "no other polling process")
    second = machine.poller_of(service)
    assert second is not None
    service.send_signal(signal.SIGTERM)
    _, log = service.communicate(timeout=PATIENCE_SECONDS)
    assert service.returncode == 0, log
    assert has_ended(second)
    watts = powers(machine.state)
    assert watts["desk"] == pytest.approx(40, rel=0.001)
    assert watts["lamp"] == pytest.approx(12, rel=0.001)
    assert "printer" not in watts


def test_a_parent_that_is_killed_takes_it_along(machine):
    """The polling process of a killed service ends, because its pipe is closed."""
    machine.meters(desk="40")
    service = machine.start("run")
    until(lambda: machine.published() is not None)
    poller = machine.poller_of(service)
    assert poller is not None
    service.kill()
    until(lambda: has_ended(poller))


def test_one_look(machine):
    """`poll --once` shows every source with its readings, as text and JSON; exit code 3 means a failure."""
    machine.meters(desk="40.5", printer="hang")
    shown = machine.call("poll", "--once", "--json")
    assert shown.returncode == 3, shown.stderr
    by_name = {(row["source"], row["meter"]): row for row in json.loads(shown.stdout)["sources"]}
    assert by_name["file_meter", "desk"]["readings"] == [{"domain": "desk", "power_milliwatts": 40_500}]
    assert by_name["file_meter", "printer"]["reason"].startswith("no answer")
    assert by_name["nvidia_nvml", ""]["word"] == "no_device"
    text = machine.call("poll", "--once").stdout
    assert "+ file_meter desk\n    plug desk (wall): 40.5 W\n" in text
    assert not (machine.state / "published.json").exists(), "a look publishes nothing"
    machine.file("printer").write_text("1")
    assert comes(
        lambda: machine.call("poll", "--once").returncode == 0
    )  # the source still waits for half a second


def test_doctor_tells_of_meters(machine):
    """Doctor has a line for every polled source and meter, the wall meter on the ladder, and a warning for
    the meter that fails."""
    machine.meters(desk="40")
    machine.file("lamp").unlink(missing_ok=True)
    with (machine.folder / "meters.toml").open("a") as file:
        file.write(machine.meter("lamp"))
    said = json.loads(machine.call("doctor", "--json").stdout)
    rows = {row["name"]: row for row in said["sources"]}
    assert rows["file_meter desk"]["points"][0] == {
        "kind": "plug", "domain": "desk", "boundary": "wall", "subject": "machine",
    }  # fmt: skip
    assert rows["snmp_meter"]["word"] == "not_configured"
    assert rows["nvidia_nvml"]["word"] == "no_device"
    assert "polled" not in rows
    assert next(rung for rung in said["ladder"] if rung["place"])["method"] == "metered"
    assert "file_meter lamp: lamp.watts does not answer" in said["warnings"]
    (machine.folder / "meters.toml").write_text("[[meter]]\nnme = 'x'\n")
    assert any(
        "meters.toml" in line for line in json.loads(machine.call("doctor", "--json").stdout)["warnings"]
    )


def test_a_wrong_meters_file(machine):
    """A wrong meters.toml gives exit code 2 and one line, and the publication gives the reason."""
    (machine.folder / "meters.toml").write_text("[[meter]]\nname = 'x'\nsource = 'nut_upz'\n")
    refused = machine.call("poll")
    assert refused.returncode == 2
    assert "the nearest known one is 'nut_ups'" in refused.stderr
    assert refused.stderr.count("\n") == 1
    said = machine.published()
    assert said is not None
    assert "nut_upz" in said.outcomes[0].reason


def test_one_polling_process_at_a_time(machine):
    """A second polling process is refused, because it would ask every meter twice."""
    machine.meters(desk="40")
    first = machine.start("poll")
    until(lambda: machine.published() is not None)
    second = machine.call("poll")
    assert second.returncode == 1
    assert "veilleuse-agent poll is already running here" in second.stderr
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=PATIENCE_SECONDS)
    assert first.returncode == 0


def test_json_is_for_a_look(machine):
    """`poll --json` without --once is wrong usage."""
    assert machine.call("poll", "--json").returncode == 2


def two_are_read_and_the_printer_hangs(said: Publication | None) -> bool:
    """Return whether two meters are read and the printer's meter failed."""
    if said is None:
        return False
    words = {outcome.name: outcome.word for outcome in said.outcomes}
    return len(said.readings) == 2 and words["file_meter printer"] == "failed"


def powers(state: Path) -> dict[str, float]:
    """Return the mean watts of each point over its covered time, from the records of a spool."""
    with closing(connect(state / FILE_NAME)) as db:
        texts = [row[0] for row in db.execute("SELECT body FROM pending")]
    records = [body for text in texts if isinstance(body := body_from_json(text), Record)]
    energy: dict[str, int] = {}
    covered: dict[str, int] = {}
    for record in records:
        for cell in record.cells.values():
            for point, (millijoules, milliseconds) in cell.energies.items():
                energy[point.domain] = energy.get(point.domain, 0) + millijoules
                covered[point.domain] = covered.get(point.domain, 0) + milliseconds
    return {domain: energy[domain] / covered[domain] for domain in energy if covered[domain]}
