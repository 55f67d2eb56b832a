# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the RAPL helper: its publication, its use by the agent, and its process without capabilities."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes.measuring import FakeClock, ticker_over
from tests.support.fakes.metered import RaplTree
from tests.support.trees import LONG_RANGE, TREES, context, zone
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.agent.commands.rapl_helper import EVERY_MILLISECONDS, RaplHelper
from veilleuse.agent.errors import AgentError, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Tick
from veilleuse.agent.platforms import instant_now
from veilleuse.agent.sources.linux_rapl import LinuxRapl
from veilleuse.agent.sources.rapl_snapshot import RaplSnapshot
from veilleuse.agent.sources.snapshot import read_publication

TICK = 10_000


class Bench:
    """Polls one counter twice on one clock: by a direct ticker, and by a ticker through the helper."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.tree = RaplTree(folder / "sys")
        self.file = folder / "readings.json"
        self.helper = RaplHelper(context(folder), self.file, self.clock.now)
        self.helper.step()
        self.through = RaplSnapshot(context(folder, helper=self.file), self.clock.now)
        self.ticks: dict[str, list[Tick]] = {"direct": [], "through": []}
        self.tickers = {
            "direct": ticker_over(self.clock, LinuxRapl(context(folder))),
            "through": ticker_over(self.clock, self.through),
        }

    def pass_time(self, milliseconds: int, watts: int, *, asleep: bool = False) -> None:
        self.clock.advance(milliseconds, asleep=asleep)
        self.tree.spend(watts * milliseconds * 1_000)

    def tick(self, *, last: bool = False) -> None:
        for name, ticker in self.tickers.items():
            self.ticks[name] += ticker.tick(last=last)[1]

    def millijoules(self, name: str) -> int:
        return sum(energy.energy_millijoules for tick in self.ticks[name] for energy in tick.energies)

    def uncovered(self, name: str) -> int:
        """Return the milliseconds without energy."""
        return sum(tick.duration_milliseconds for tick in self.ticks[name] if not tick.energies)


def test_what_is_published(tmp_path):
    """The helper publishes the source's points in millijoules, every 10 s, readable only by its group."""
    zone(tmp_path, "a", "package-0", 123_456_789)
    zone(tmp_path, "a:b", "dram", 999)
    clock = FakeClock()
    file = tmp_path / "readings.json"
    RaplHelper(context(tmp_path), file, clock.now).step()
    assert file.stat().st_mode & 0o777 == 0o640
    said = read_publication(str(file))
    assert said.points == LinuxRapl(context(tmp_path)).open()
    readings = [one.reading for one in said.readings]
    assert [one.energy_microjoules for one in readings if isinstance(one, EnergyCounter)] == [0, 123_456_000]
    assert {one.every_milliseconds for one in said.readings} == {EVERY_MILLISECONDS} == {10_000}
    assert {one.boottime_milliseconds for one in said.readings} == {clock.boottime}
    assert [(one.word, one.successes, one.failures) for one in said.outcomes] == [("ok", 1, 0)]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.integers(1, 300), st.integers(8_000, 12_000)), min_size=4, max_size=20),
)
def test_nothing_is_lost_or_counted_twice(tmp_path_factory, phase, steps):
    """For any phase of the helper, jitter of ticks and wrap of the counter, no energy is lost or counted
    twice.

    Through the helper, the agent counts the energy between its first and its last value.
    """
    bench = Bench(tmp_path_factory.mktemp("bench"))
    bench.tree.microjoules = LONG_RANGE - 5_000_000_000
    bench.tree.show()
    due, spent, published, taken = bench.clock.boottime + phase, 0, -1, []
    bench.tick()
    for watts, milliseconds in steps:
        end = bench.clock.boottime + milliseconds
        while due <= end:
            spent += watts * (due - bench.clock.boottime)
            bench.pass_time(due - bench.clock.boottime, watts)
            bench.helper.step()
            published, due = spent, due + EVERY_MILLISECONDS
        spent += watts * (end - bench.clock.boottime)
        bench.pass_time(end - bench.clock.boottime, watts)
        bench.tick()
        if published >= 0 and published not in taken:
            taken.append(published)
    assert bench.millijoules("direct") == pytest.approx(spent, abs=1)
    assert bench.millijoules("through") == pytest.approx(taken[-1] - taken[0], abs=1)
    assert bench.uncovered("through") <= 3 * 12_000, "before its first value, and after its last"


def test_a_silent_helper_is_a_gap(tmp_path):
    """After 30 s without a new value the reading fails; the energy of that time stays absent later."""
    bench = Bench(tmp_path)
    for _ in range(6):
        bench.pass_time(TICK, 50)
        bench.helper.step()
        bench.tick()
    before = bench.millijoules("through")
    for _ in range(3):
        bench.pass_time(TICK, 50)
        bench.tick()
    assert bench.through.read() == ()
    bench.pass_time(TICK, 50)
    with pytest.raises(ReadFailed, match="systemctl status veilleuse-rapl"):
        bench.through.read()
    for _ in range(8):
        bench.pass_time(TICK, 50)
        bench.tick()
    assert bench.millijoules("through") == before
    for _ in range(3):
        bench.pass_time(TICK, 50)
        bench.helper.step()
        bench.tick()
    assert bench.millijoules("through") - before == 2 * 50 * TICK
    assert bench.uncovered("through") >= 8 * TICK


def test_nothing_from_before_a_suspend(tmp_path):
    """A value published before a suspend is not the start of the interval after it."""
    bench = Bench(tmp_path)
    for _ in range(4):
        bench.pass_time(TICK, 50)
        bench.helper.step()
        bench.tick()
    bench.pass_time(5_000, 50)
    bench.helper.step()
    bench.pass_time(20_000, 1, asleep=True)
    bench.pass_time(1_000, 50)
    bench.tick()
    spent = bench.millijoules("through")
    bench.pass_time(TICK, 50)
    bench.helper.step()
    bench.tick()
    assert bench.millijoules("through") == spent
    bench.pass_time(TICK, 50)
    bench.helper.step()
    bench.tick()
    assert bench.millijoules("through") == spent + 50 * TICK


def test_the_counters_come_and_go(tmp_path):
    """Missing counters give `no_device` and are tried at each step; removed ones give `failed`."""
    file = tmp_path / "readings.json"
    helper = RaplHelper(context(tmp_path), file, FakeClock().now)
    helper.step()
    (outcome,) = read_publication(str(file)).outcomes
    assert outcome.word == "no_device"
    assert "intel_rapl_msr" in outcome.remedy
    zone(tmp_path, "0", "package-0", 5_000_000)
    helper.step()
    assert len(read_publication(str(file)).readings) == 1
    (tmp_path / "sys/class/powercap").rename(tmp_path / "unloaded")
    helper.step()
    said = read_publication(str(file))
    assert (said.readings, len(said.points), said.outcomes[0].word) == ((), 1, "failed")


def closed(tree: Path) -> None:
    """Make the counters unreadable, as they are for an ordinary user."""
    for file in tree.glob("sys/class/powercap/*/energy_uj"):
        file.unlink()
        file.symlink_to("/proc/0/nobody-reads-this")


def test_the_agent_takes_it_by_itself(tmp_path):
    """Where counters are unreadable, the agent reads the helper's publication and offers the same points."""
    for name in ("root", "user"):
        shutil.copytree(TREES / "laptop", tmp_path / name)
    closed(tmp_path / "user")
    file = tmp_path / "readings.json"
    told = context(tmp_path / "user", helper=file)
    with pytest.raises(SourceUnavailable, match="the RAPL helper publishes nothing at") as caught:
        LinuxRapl(told).open()
    assert caught.value.word == "no_permission"
    assert "veilleuse-rapl.service" in caught.value.remedy
    RaplHelper(context(tmp_path / "root"), file, instant_now).step()
    source = LinuxRapl(told)
    root = LinuxRapl(context(tmp_path / "root"))
    assert source.open() == root.open()
    assert source.not_counted() == root.not_counted() != ()
    assert source.read() == (), "what was made before we began is of no use to us"
    opened = instant_now().boottime_milliseconds
    until(lambda: instant_now().boottime_milliseconds > opened)
    RaplHelper(context(tmp_path / "root"), file, instant_now).step()
    values = {
        one.point.domain: one.energy_microjoules for one in source.read() if isinstance(one, EnergyCounter)
    }
    assert values == {"dram-0": 22_000_000_000, "package-0": 184_467_440_000, "psys": 201_000_000_000}
    assert source.read() == (), "a value counts once"
    # A container hides the whole of powercap. In a virtual machine the file would describe another machine.
    shutil.rmtree(tmp_path / "user/sys/class/powercap")
    assert LinuxRapl(told._replace(virtualisation="container")).open() == source.open()
    with pytest.raises(SourceUnavailable, match="virtual machine"):
        LinuxRapl(told._replace(virtualisation="kvm")).open()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 2}', "\x00\xff", '{"version":1,"points":5}'])
def test_a_file_that_is_no_publication(tmp_path, text):
    """An invalid publication gives no_permission, like an absent one."""
    shutil.copytree(TREES / "laptop", tmp_path / "t")
    closed(tmp_path / "t")
    (tmp_path / "readings.json").write_text(text)
    with pytest.raises(SourceUnavailable) as caught:
        LinuxRapl(context(tmp_path / "t", helper=tmp_path / "readings.json")).open()
    assert caught.value.word == "no_permission"


def test_a_helper_with_nothing_or_nothing_recent(tmp_path):
    """The agent gives the helper's own reason; it refuses a publication older than 30 s."""
    shutil.copytree(TREES / "laptop", tmp_path / "t")
    file = tmp_path / "readings.json"
    RaplHelper(context(tmp_path / "nowhere"), file, FakeClock().now).step()
    closed(tmp_path / "t")
    with pytest.raises(SourceUnavailable, match="the RAPL helper reports: no RAPL counters under"):
        LinuxRapl(context(tmp_path / "t", helper=file)).open()
    clock = FakeClock()
    RaplHelper(context(TREES / "laptop"), file, clock.now).step()
    clock.advance(30_001)
    with pytest.raises(SourceUnavailable, match="nothing recent"):
        RaplSnapshot(context(tmp_path / "t", helper=file), clock.now).open()


def test_what_is_not_rapl_is_not_taken(tmp_path):
    """The agent refuses the points of another kind in the RAPL helper's file."""
    file = tmp_path / "readings.json"
    clock = FakeClock()
    zone(tmp_path, "0", "package-0", 5_000_000)
    RaplHelper(context(tmp_path), file, clock.now).step()
    file.write_text(file.read_text().replace('"rapl"', '"plug"'))
    with pytest.raises(SourceUnavailable, match="it offers nothing"):
        RaplSnapshot(context(tmp_path, helper=file), clock.now).open()


# ------------------------------------------------------------------------------------- the process


def environment(tree: Path, file: Path) -> dict[str, str]:
    """Return the environment of a helper that reads that tree."""
    return {
        **os.environ,
        "VEILLEUSE_AGENT__PATHS__SYSFS": str(tree / "sys"),
        "VEILLEUSE_AGENT__PATHS__RAPL_HELPER": str(file),
    }


COMMAND = [sys.executable, "-P", "-m", "veilleuse.agent", "rapl-helper"]


@pytest.mark.parametrize("confined", [False, True])
def test_the_process(tmp_path, confined):
    """The process sends READY after its first publication and ends with 0 at SIGTERM.

    The confined one is root in a user namespace: no capabilities, files 0400 of root.
    """
    prefix: list[str] = []
    if confined:
        prefix = ["unshare", "--user", "--map-root-user", "setpriv", "--bounding-set=-all", "--inh-caps=-all"]
        allowed = shutil.which("unshare") and shutil.which("setpriv")
        if not allowed or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
            pytest.skip("no user namespaces here")
    folder = zone(tmp_path, "0", "package-0", 5_000_000)
    for file in (folder / "energy_uj", folder / "max_energy_range_uj"):
        file.chmod(0o400)
    address = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address)
        channel.settimeout(PATIENCE_SECONDS)
        variables = {**environment(tmp_path, tmp_path / "readings.json"), "NOTIFY_SOCKET": address}
        with subprocess.Popen([*prefix, *COMMAND], env=variables) as process:
            try:
                assert channel.recv(100) == b"READY=1"
                assert len(read_publication(str(tmp_path / "readings.json")).readings) == 1
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0
        assert channel.recv(100) == b"STOPPING=1"


def test_nowhere_to_write(tmp_path):
    """A missing folder gives one line that names the service unit, and code 1."""
    zone(tmp_path, "0", "package-0", 5_000_000)
    with pytest.raises(AgentError, match=r"cannot write .*veilleuse-rapl\.service"):
        RaplHelper(context(tmp_path), tmp_path / "no/readings.json", FakeClock().now).step()
    variables = environment(tmp_path, tmp_path / "no/readings.json")
    done = subprocess.run(COMMAND, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_what_the_process_loads():
    """The helper runs as root, so it loads no network, TLS, database or parser, and few modules of ours."""
    program = """
import sys, json
before = set(sys.modules)
from veilleuse.agent.commands.main import parse
parse(["rapl-helper"])
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    heavy = (
        "_ssl",
        "_hashlib",
        "_sqlite3",
        "argparse",
        "asyncio",
        "grpc",
        "google",
        "cryptography",
        "psutil",
        "http",
    )
    assert not loaded & set(heavy)
    ours = {name.removeprefix("veilleuse.agent.") for name in loaded if name.startswith("veilleuse.agent.")}
    assert ours <= {
        "clock", "commands", "commands.main", "commands.rapl_helper", "errors", "model", "platforms",
        "platforms.posix", "ports", "service", "service.systemd", "settings", "sources", "sources.files", "sources.linux_rapl", "sources.snapshot",
    }  # fmt: skip
