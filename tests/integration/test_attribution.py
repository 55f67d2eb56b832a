# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test attribution from processes in real control groups to the shares of a report.

The kernel's CPU time, the agent's fold, spool and sender, and the collector are real. The power meter's
reading is simulated, and the groups are made without systemd.

The tests need the right to make control groups (root, the first control group namespace), or are skipped.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from tests.support import clock
from tests.support.fakes.measuring import GaugeSource, ticker_over
from tests.support.fleet import FleetAgent, now_unix_milliseconds
from tests.support.machines import Served
from tests.support.records import spool_of
from tests.support.waiting import until
from veilleuse.agent.model import UnitReading
from veilleuse.agent.platforms import SystemClock
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.resident.open_sources import source_context
from veilleuse.agent.settings import read_settings
from veilleuse.agent.sources.linux_units import LinuxUnits
from veilleuse.agent.sources.utilisation import Utilisation
from veilleuse.wire.vocabulary import Population

Veilleuse = Callable[..., tuple[int, str, str]]
CGROUPS = Path("/sys/fs/cgroup")
HIERARCHIES = {
    "unified": ("cgroup.controllers", ("", "unified")),
    "legacy": ("cpuacct.usage", ("cpu,cpuacct", "cpuacct")),
}
"""Kind → a file that the hierarchy's root has, and folders where it may be mounted."""
GUEST = r"machine.slice/machine-qemu\x2d1\x2dalice.scope"
BURN = """
import os, sys
sys.stdin.readline()
end = sum(os.times()[:2]) + {seconds}
while sum(os.times()[:2]) < end:
    pass
"""
TICK_MILLISECONDS = 10
"""Steps in which a process is told its CPU time."""


class Groups:
    """Control groups of a real kernel, with processes that each use a given CPU time."""

    def __init__(self, root: Path, where: str) -> None:
        self.root = root
        self.where = where
        """Folder of the hierarchy below fs/cgroup."""

    def make(self, path: str) -> Path:
        """Make a group and the groups above it; return its folder."""
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def burn(self, **seconds: tuple[str, float]) -> dict[str, range]:
        """Run processes at the same time, each in its group (path, CPU seconds), and wait until all end.

        Return the CPU milliseconds that each group may tell: what was burnt, to all that the process used.
        """
        children = {}
        for name, (path, burnt) in seconds.items():
            child = subprocess.Popen(
                [sys.executable, "-c", BURN.format(seconds=burnt)], stdin=subprocess.PIPE
            )
            (self.make(path) / "cgroup.procs").write_text(str(child.pid))
            children[name] = child
        for child in children.values():
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.close()
        used = {}
        for name, child in children.items():
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            assert child.returncode == 0
            least = round(seconds[name][1] * 1000) - TICK_MILLISECONDS
            used[name] = range(least, round((usage.ru_utime + usage.ru_stime) * 1000) + 2 * TICK_MILLISECONDS)
        return used

    def end(self, path: str) -> None:
        """Remove a group; the kernel may need a moment after its last process."""
        until(lambda: _removed(self.root / path), f"{path} is busy")

    def remove(self) -> None:
        """Remove all groups, the innermost first."""
        for folder, _, _ in os.walk(self.root, topdown=False):
            self.end(str(Path(folder).relative_to(self.root)))


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True


@pytest.fixture(params=["unified"])
def groups(request: pytest.FixtureRequest) -> Iterator[Groups]:
    """Give groups below one of the kernel's groups, which is used as the root."""
    told_by, places = HIERARCHIES[request.param]
    place = next((place for place in places if (CGROUPS / place / told_by).exists()), None)
    if place is None:
        pytest.skip(f"no {request.param} control groups on this machine")
    root = CGROUPS / place / f"veilleuse-test-{os.getpid()}"
    try:
        root.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made in {root.parent}: {error.strerror}")
    made = Groups(root, place)
    made.make("system.slice")
    yield made
    made.remove()


def context_of(groups: Groups, folder: Path, salt: str = "") -> SourceContext:
    """Return the context of a source whose sysfs contains the real control groups."""
    link = folder / "sys/fs/cgroup" / groups.where
    link.parent.mkdir(parents=True)
    link.symlink_to(groups.root)
    return SourceContext(f"{folder}/sys", "/proc", "none", salt=salt)


def read(source: LinuxUnits) -> dict[str, int]:
    """Return name → CPU milliseconds of each unit."""
    return {one.name: one.cpu_milliseconds for one in source.read() if isinstance(one, UnitReading)}


@pytest.mark.parametrize("groups", list(HIERARCHIES), indirect=True)
def test_a_real_kernel_counts(groups, tmp_path):
    """A process's CPU time counts for its service. A service that ended is not read; when it runs again, its
    sum continues. Sessions and slices are not units."""
    source = LinuxUnits(context_of(groups, tmp_path))
    source.open()
    job = "system.slice/system-job.slice/job@1.service"
    session = "user.slice/user-1000.slice/session-1.scope"
    groups.make("system.slice/quiet.service")
    used = groups.burn(web=("system.slice/web.service", 0.2), one=(job, 0.1), person=(session, 0.1))
    before = read(source)
    assert before.keys() == {"unit:web", "unit:job", "unit:quiet"}
    assert before["unit:web"] in used["web"]
    assert before["unit:job"] in used["one"]
    assert before["unit:quiet"] == 0
    groups.end(job)
    assert "unit:job" not in read(source)
    used = groups.burn(again=(job, 0.1))
    after = read(source)
    assert after["unit:web"] == before["unit:web"], "nobody works there any more"
    assert after["unit:job"] - before["unit:job"] in used["again"]
    source.close()


def test_from_the_kernel_to_the_report(groups, tmp_path, running: Served, veilleuse: Veilleuse):
    """Each part has energy in proportion to its CPU time. A person's session counts in the rest of the system
    only, and a guest's name is stored nowhere."""
    agent = enrolled(tmp_path, veilleuse)
    salt = source_context(agent.settings).salt
    assert Path(salt).exists(), "the first contact made it"
    source, meter = LinuxUnits(context_of(groups, tmp_path, salt)), GaugeSource(400_000)
    used = measure(agent, groups, source, meter)
    assert agent.contact(), agent.standing
    assert veilleuse("derive")[0] == 0

    today = clock.today()
    dates = ("--from", f"{today - timedelta(days=1)}", "--to", f"{today + timedelta(days=2)}")
    asked = ("report", "attribution", "--host", agent.agent_id.hex(), *dates, "--format", "json")
    code, out, err = veilleuse(*asked)
    assert (code, err) == (0, "")
    made = json.loads(out)
    (total,) = made["totals"]
    assert total["energy_millijoules"] == sum(row["energy_millijoules"] for row in made["rows"]) > 0
    rows = {(row["part"], row.get("name")): row for row in made["rows"]}
    web, job = rows["service", "web"], rows["service", "job"]
    ((_, name), guest), *_ = [(key, row) for key, row in rows.items() if key[0] == "guest"]
    assert len(name) == 16
    assert web["cpu_milliseconds"] in used["web"]
    assert job["cpu_milliseconds"] in used["job"]
    per_millisecond = web["energy_millijoules"] / web["cpu_milliseconds"]
    for row in (job, guest):
        assert row["energy_millijoules"] == pytest.approx(row["cpu_milliseconds"] * per_millisecond, abs=2)
    assert rows["rest_of_system", None]["cpu_milliseconds"] >= 150, "the session, and this machine's own"
    assert rows["not_on", None]["energy_millijoules"] == 0
    assert not [key for key in rows if key[0] == "not_attributed"]
    folder = tmp_path / "data"
    for place in (folder / "data.db", folder / "data.db-wal", *agent.state.glob("spool.db*")):
        content = place.read_bytes() if place.exists() else b""
        assert b"alice" not in content
        assert b"user-1000" not in content
    assert "alice" not in out


def enrolled(folder: Path, veilleuse: Veilleuse) -> FleetAgent:
    """Return a server's agent that has made its first contact."""
    place = ("--entity", "DSI", "--site", "Lyon", "--population", "server")
    assert veilleuse("token", "create", *place, "--output", str(folder / "join"))[0] == 0
    agent = FleetAgent(0, folder / "agent", now_unix_milliseconds)
    given = {"paths.state": str(agent.state), "measure.device_class": "server"}
    agent.settings = read_settings(None, {}, given)
    agent.enrol(folder / "join")
    with closing(spool_of(agent.state)):
        assert agent.contact(), agent.standing
    return agent


def measure(agent: FleetAgent, groups: Groups, source: LinuxUnits, meter: GaugeSource) -> dict[str, range]:
    """Poll twice with work between the polls, and put the records into the spool; return the work."""
    for path in ("system.slice/web.service", "system.slice/job@1.service", GUEST):
        groups.make(path)
    load = Utilisation(SourceContext("/sys", "/proc", "none"))
    load.open()
    clock = SystemClock("/proc")
    ticker = ticker_over(clock, source, meter, load=load)
    ticker.tick()
    before = busy_seconds()
    used = groups.burn(
        web=("system.slice/web.service", 0.4),
        job=("system.slice/job@1.service", 0.2),
        guest=(GUEST, 0.2),
        person=("user.slice/user-1000.slice/session-1.scope", 0.3),
    )
    until(lambda: busy_seconds() - before >= 1.1, "the whole machine's clock does not tell the work")
    _, ticks = ticker.tick(last=True)
    clock.close()
    source.close()
    fold = Fold(Population.SERVER, 300_000)
    records = [record for tick in ticks for record in fold.add(tick)] + list(fold.flush())
    with closing(spool_of(agent.state)) as spool:
        spool.append([record.to_json() for record in records], {})
    return used


def busy_seconds() -> float:
    """Return the CPU time that the whole machine has worked; it is told in ticks of 10 ms."""
    times = psutil.cpu_times()
    return float(sum(times[:7]) - times.idle - times.iowait)
