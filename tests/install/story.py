# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What an administrator does with two machines, from the installation to the removal, and what must hold."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tests.install.machines import Machine
from tests.promises.support.killed_agent import UNKNOWN, Held, held
from tests.promises.support.previous import BODIES, PERIOD
from tests.support import clock
from tests.support.peers import peer
from tests.support.waiting import comes
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

COLLECTOR: Final = "veilleuse-collector"
AGENT: Final = "veilleuse-agent"
RAPL: Final = "veilleuse-rapl"
DATA: Final = "/var/lib/veilleuse"
STATE: Final = "/var/lib/veilleuse-agent"
JOIN: Final = f"{STATE}/join.json"
TICK_SECONDS: Final = 2
PERIOD_SECONDS: Final = 10
WATCHDOG_SECONDS: Final = 30
"""Instead of the unit's three minutes."""
CHECKPOINT_SECONDS: Final = 60
"""Of a server, by default."""
DEPOT: Final = "/srv"
"""Where packages lie in a machine; its /tmp and /run are file systems that only the machine sees."""

_AGENT_SETTINGS: Final = f"""\
[Service]
WatchdogSec={WATCHDOG_SECONDS}
Environment=VEILLEUSE_AGENT__MEASURE__TICK_SECONDS={TICK_SECONDS}
Environment=VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS={PERIOD_SECONDS}
Environment=VEILLEUSE_AGENT__MEASURE__DEVICE_CLASS=server
Environment=VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS={PERIOD_SECONDS}
"""
"""As by `systemctl edit veilleuse-agent`: quick, and a server, because a virtual machine has no energy."""
_COLLECTOR_SETTINGS: Final = """\
[grpc]
address = "0.0.0.0:8641"
enrolment_address = "0.0.0.0:8642"
advertised_address = "collector.test:8641"
advertised_enrolment_address = "collector.test:8642"

[http]
hosts_metrics = true

[pki]
server_names = ["collector.test"]
"""
_FEED: Final = f"""
import os, sqlite3, time
from contextlib import closing

bodies = open("{DEPOT}/load").read().splitlines()
fed = 0
while not os.path.exists("{DEPOT}/end"):
    now = bodies[fed : fed + 20]
    with closing(sqlite3.connect("{STATE}/spool.db", timeout=30)) as database, database:
        database.executemany("INSERT INTO pending (body) VALUES (?)", [(body,) for body in now])
    fed += len(now)
    time.sleep(0.5)
open("{STATE}/fed", "w").write(str(fed))
"""
_PROMETHEUS: Final = """\
global: {scrape_interval: 1s}
scrape_configs:
  - {job_name: fleet, static_configs: [{targets: ['127.0.0.1:8640']}]}
  - {job_name: servers, metrics_path: /metrics/hosts, static_configs: [{targets: ['127.0.0.1:8640']}]}
"""


def install(machine: Machine, *files: Path, answers: Mapping[str, str] | None = None) -> None:
    """Install packages with apt. `answers`: those to debconf's questions, question → value."""
    places = []
    for file in files:
        shutil.copy(file, machine.path(DEPOT))
        places.append(f"{DEPOT}/{file.name}")
    answer(machine, answers or {})
    machine.run("apt-get", "install", "--yes", "--no-install-recommends", *places, seconds=300)
    for place in places:
        machine.path(place).unlink()


def answer(machine: Machine, answers: Mapping[str, str]) -> None:
    """Answer questions of debconf before they are asked."""
    lines = [
        f"{question.partition('/')[0]} {question} string {value}\n" for question, value in answers.items()
    ]
    machine.run("debconf-set-selections", stdin="".join(lines))


def settle(machine: Machine, unit: str) -> None:
    """Wait until a unit is active."""
    wait_for(
        lambda: machine.property_of(unit, "ActiveState") == "active", f"{unit} is active", (machine, unit)
    )


def wait_for(
    condition: Callable[[], object], what: str, *units: tuple[Machine, str], seconds: float = 90
) -> None:
    """Wait until a condition is true. Fails with what did not happen, and the journals of these units."""
    if not comes(condition, seconds, every=0.5):
        journals = "\n".join(machine.journal(unit) for machine, unit in units)
        raise AssertionError(f"not within {seconds:g} s: {what}\n{journals}")


class Story:
    """A collector's machine and an agent's."""

    def __init__(self, collector: Machine, agent: Machine) -> None:
        self.collector, self.agent = collector, agent
        self._units = ((agent, AGENT), (collector, COLLECTOR))
        self.interrupted_milliseconds = 0
        """Time the agent may report as unknown at most, from its installation on."""
        self._installed: tuple[float, float] | None = None
        """Beginning and end of the agent's first installation, Unix seconds."""

    # --- the collector

    def configure_collector(self) -> None:
        """Write its settings, before it is started."""
        file = self.collector.path("/etc/veilleuse/collector.toml")
        file.parent.mkdir(exist_ok=True)
        file.write_text(_COLLECTOR_SETTINGS, encoding="ascii")
        self.collector.run("systemd-tmpfiles", "--create")

    def veilleuse(self, *arguments: str) -> str:
        """Run `veilleuse` as the collector's account; return its output."""
        return self.collector.out("veilleuse", *arguments, user="veilleuse")

    def start_collector(self) -> None:
        """Start it as the documentation says, and wait until it is ready."""
        self.collector.run("systemctl", "start", COLLECTOR)
        settle(self.collector, COLLECTOR)

    def token(self, population: str) -> str:
        """Create a token; return the content of its join file."""
        where = ("--entity", "DSI", "--site", "campus", "--population", population)
        self.veilleuse("token", "create", *where, "--output", f"{DATA}/join")
        file = self.collector.path(f"{DATA}/join")
        content = file.read_text(encoding="utf-8")
        file.unlink()
        return content

    def carry(self, content: str) -> None:
        """Put a join file where the agent looks for it, as deploy/systemd/README.md says."""
        self.agent.path(f"{DEPOT}/join").write_text(content, encoding="utf-8")
        owner = ("-o", AGENT, "-g", AGENT, "-m", "0600")
        self.agent.run("install", *owner, f"{DEPOT}/join", f"{JOIN}.new")
        self.agent.run("mv", f"{JOIN}.new", JOIN)
        self.agent.path(f"{DEPOT}/join").unlink()

    def enrol_by_hand(self, content: str) -> None:
        """Enrol with the command, which every release has."""
        self.carry(content)
        self.agent.run("veilleuse-agent", "enrol", JOIN, user=AGENT)

    def held(self) -> Held:
        """Return what the collector has stored."""
        return held(self.collector.path(DATA))

    # --- the agent

    def quicken_agent(self) -> None:
        """Write the drop-in of these tests, before the package is there."""
        folder = self.agent.path(f"/etc/systemd/system/{AGENT}.service.d")
        folder.mkdir(parents=True)
        (folder / "quick.conf").write_text(_AGENT_SETTINGS, encoding="ascii")
        self.agent.run("systemctl", "daemon-reload")

    def forget_quickness(self) -> None:
        """Remove the drop-in."""
        shutil.rmtree(self.agent.path(f"/etc/systemd/system/{AGENT}.service.d"))

    def spooled(self, table: str) -> int:
        """Count the rows of a table of the agent's spool."""
        file = self.agent.path(f"{STATE}/spool.db")
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
            where = " WHERE acknowledged_unix_milliseconds IS NULL" if table == "outbox" else ""
            return int(database.execute(f"SELECT count(*) FROM {table}{where}").fetchone()[0])

    def delivers(self) -> None:
        """Wait until the collector has a record of a period that began after now."""
        now = clock.unix_milliseconds()
        what = "the collector has a new record"
        wait_for(lambda: max(self.held().periods, default=0) > now, what, *self._units)

    def receives(self, more: int) -> None:
        """Wait until the collector has so many records more."""
        enough = self.held().records + more
        wait_for(lambda: self.held().records >= enough, f"{more} records more", *self._units)

    @contextmanager
    def interrupted(self, unit: str = AGENT, *, killed: bool = False) -> Iterator[None]:
        """Add the time of the block, and of what a stop may lose, to the time that may be unknown.

        Nothing is added for another unit than the agent's: it measures on.
        """
        began, now = time.monotonic(), clock.unix_seconds()
        yield
        self._installed = self._installed or (now, clock.unix_seconds())
        if unit != AGENT:
            return
        lost = TICK_SECONDS + (CHECKPOINT_SECONDS if killed else 0)
        self.interrupted_milliseconds += round(1000 * (time.monotonic() - began + lost))

    # --- what must hold

    def balance(self, fed: Mapping[int, int] | None = None) -> str:
        """Check that the records follow one another without a hole, from the agent's first one to its newest.

        Each begins where the one before ends: a record's states last as long as its period, or its periods,
        because a long stretch of one state is one record. `fed`: records that were put into the spool beside
        the agent's own, start → milliseconds.
        """
        found = self.held()
        fed = fed or {}
        live = {start: sum(found.periods[start].values()) for start in sorted(set(found.periods) - set(fed))}
        (first, *starts), (_, *ends) = live, (start + length for start, length in live.items())
        lost = [start for start, end in zip(starts[1:], ends, strict=False) if start != end]
        lost += [start for start, length in fed.items() if sum(found.periods[start].values()) != length]
        assert self._installed is not None
        before, measuring = (round(1000 * moment) for moment in self._installed)
        lost += [before] if first > measuring else []  # what was measured before the enrolment
        unknown = sum(found.periods[start][UNKNOWN] for start in live)
        allowed = self.interrupted_milliseconds + max(0, before - first)  # of the agent's first period
        refused = self.spooled("quarantine")
        figure = (
            f"{len(lost)} of {found.records:,} records lost, {found.duplicates} duplicated, {refused} refused, "
            f"{unknown / 1000:.0f} s unknown of {allowed / 1000:.0f} allowed"
        )
        assert (lost, found.duplicates, found.holes, found.gap_milliseconds, refused) == ([], 0, 0, 0, 0), (
            figure
        )
        assert (starts[0] - first) % (PERIOD_SECONDS * 1000) == 0
        assert live[first] <= starts[0] - first, "the first one begins in the middle of its period"
        assert found.epochs == 1
        assert unknown <= allowed, figure
        return figure


class Load:
    """Appends records of the previous release to the agent's spool, as its resident does."""

    def __init__(self, agent: Machine, count: int = 8_000) -> None:
        """Needs the previous release on the machine, for its format. `count`: records at most."""
        self._agent = agent
        hour = clock.unix_milliseconds() // MILLISECONDS_PER_HOUR * MILLISECONDS_PER_HOUR
        first = hour - 40 * MILLISECONDS_PER_HOUR
        self._starts = [first + number * PERIOD for number in range(count)]
        made = json.dumps([(start, number % 9_973) for number, start in enumerate(self._starts)])
        bodies = agent.run(f"/usr/lib/{AGENT}/bin/python3", "-c", BODIES, stdin=made).stdout
        agent.path(f"{DEPOT}/load").write_text(bodies, encoding="utf-8")
        self._began = time.monotonic()
        self.seconds = 0.0
        self._process = subprocess.Popen(agent.inside("python3", "-c", _FEED, user=AGENT))

    def end(self) -> dict[int, int]:
        """End it; return the records it appended, start → milliseconds. Fails if it had ended before."""
        assert self._process.poll() is None, "the load ended before the upgrades did"
        self._agent.path(f"{DEPOT}/end").touch()
        assert self._process.wait(30) == 0
        self.seconds = time.monotonic() - self._began
        counted = self._agent.path(f"{STATE}/fed")
        number = int(counted.read_text(encoding="ascii"))
        for file in (counted, self._agent.path(f"{DEPOT}/load"), self._agent.path(f"{DEPOT}/end")):
            file.unlink()
        return dict.fromkeys(self._starts[:number], PERIOD)


class Prometheus:
    """Debian's Prometheus of this machine, in the collector's network."""

    def __init__(self, collector: Machine) -> None:
        self._collector = collector

    def query(self, expression: str) -> list[dict[str, str]]:
        """Return the series of an instant query: labels, and the value as `value`."""
        command = ["promtool", "query", "instant", "--format=json", "http://127.0.0.1:9090", expression]
        done = self._run(command)
        assert done.returncode == 0, done.stderr
        return [series["metric"] | {"value": series["value"][1]} for series in json.loads(done.stdout)]

    def waits_for(self, expression: str) -> list[dict[str, str]]:
        """Wait until a query has a result, and return it."""
        wait_for(lambda: self.query(expression), f"Prometheus has {expression}")
        return self.query(expression)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        program, *rest = command
        return subprocess.run(
            self._collector.network.inside(peer(program), *rest),
            pass_fds=(self._collector.network.descriptor,),
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def scraping(collector: Machine, folder: Path) -> Iterator[Prometheus]:
    """Yield a Prometheus that scrapes the collector every second, also while that restarts."""
    config = folder / "prometheus.yml"
    config.write_text(_PROMETHEUS, encoding="ascii")
    options = (f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=warn")
    command = collector.network.inside(peer("prometheus"), *options, "--web.listen-address=127.0.0.1:9090")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            command, pass_fds=(collector.network.descriptor,), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield Prometheus(collector)
    finally:
        process.terminate()
        process.wait()
