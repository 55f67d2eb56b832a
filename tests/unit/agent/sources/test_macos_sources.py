# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test powermetrics through its helper, and the battery through ioreg, with fake programs, without a Mac."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.measuring import FakeClock, ticker_over
from tests.support.processes import HANGS
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.agent.commands.powermetrics_helper import (
    COMMAND,
    LARGEST_SAMPLE_BYTES,
    PACKAGE,
    Accumulator,
    PowermetricsHelper,
    Stream,
    parse_plist,
    sample_microjoules,
)
from veilleuse.agent.errors import AgentError, ReadFailed, SourceUnavailable
from veilleuse.agent.model import (
    EnergyCounter,
    Instant,
    PowerGauge,
    Reset,
    SupplyReading,
    difference,
)
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.macos_battery import COMMAND as IOREG
from veilleuse.agent.sources.macos_battery import EVERY_MILLISECONDS, MacosBattery, battery
from veilleuse.agent.sources.macos_power import MacosPower
from veilleuse.agent.sources.snapshot import publish, read_publication
from veilleuse.wire.vocabulary import Supply

FIXTURES = Path(__file__).parents[3] / "fixtures" / "macos"
CONTEXT = SourceContext("/nowhere", "/nowhere", "none")


def fixture(name: str) -> bytes:
    """Return a file of tests/fixtures/macos."""
    return (FIXTURES / f"{name}.plist").read_bytes()


# ----------------------------------------------------------------------------------- powermetrics


@pytest.mark.parametrize(
    ("name", "microjoules"),
    [
        ("powermetrics_apple_silicon", 32_520_799),
        ("powermetrics_intel", 84_210_000),
        ("powermetrics_macos11", 2_450_000),
    ],
)
def test_energy_of_one_sample(name, microjoules):
    """A sample may give milliwatts over its own duration, joules or millijoules: each is read in its unit."""
    (found,) = Stream().feed(fixture(name))
    assert found == pytest.approx(microjoules, abs=1)


@given(st.data())
def test_a_stream_in_pieces(data):
    """However the stream is cut, each property list (NUL before each but the first) comes out once."""
    whole = b"\0".join([fixture("powermetrics_apple_silicon")] * 3)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    stream = Stream()
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert sum(len(stream.feed(piece)) for piece in pieces) == 3


def test_a_stream_without_an_end_is_given_up():
    """A stream of more than a megabyte without the end of a list raises ValueError."""
    with pytest.raises(ValueError, match="no end"):
        Stream().feed(b"x" * (LARGEST_SAMPLE_BYTES + 1))


@pytest.mark.parametrize(
    "processor",
    [
        {},
        {"combined_power": 0},  # a running package draws more than 0 W
        {"combined_power": -1.0},
        {"combined_power": float("nan")},
        {"combined_power": float("inf")},
        {"combined_power": 1_000_001},  # beyond 1,000 W
        {"combined_power": "3000"},
        {"combined_power": True},
        {"package_joules": 10_001.0},
    ],
)
def test_what_is_not_believable_is_absent(processor):
    """A missing, negative, zero or implausibly large power or energy gives None, never 0."""
    assert sample_microjoules({"elapsed_ns": 10**10, "processor": processor}) is None


@pytest.mark.parametrize("elapsed", [None, 0, -1, "1", 31 * 10**9, 2**70])
def test_a_sample_over_an_unknown_time_is_absent(elapsed):
    """A duration above three intervals contains a sleep, so its sample is absent."""
    assert sample_microjoules({"elapsed_ns": elapsed, "processor": {"combined_power": 1_000}}) is None


@given(
    st.one_of(st.binary(max_size=300), st.integers(0, 1_500).map(lambda n: fixture("powermetrics_intel")[n:]))
)
def test_soup(soup):
    """Any bytes give ValueError or samples without energy."""
    try:
        found = Stream().feed(soup + b"</plist>")
    except ValueError:
        return
    assert all(one is None for one in found)


def test_no_entities():
    """A property list that defines entities is refused and not expanded."""
    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><plist version="1.0"><string>&a;</string></plist>'
    with pytest.raises(ValueError, match="not a property list"):
        parse_plist(bomb)


# ----------------------------------------------------------------------------------------- helper


def test_the_command_is_fixed():
    """The command uses 10 s and two samplers, neither of which names a process."""
    assert COMMAND == (
        "/usr/bin/powermetrics", "--samplers", "cpu_power,gpu_power", "-i", "10000", "-f", "plist",
    )  # fmt: skip


class Bench:
    """Holds helper, source and ticker on one clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.file = folder / "readings.json"
        self.accumulator = Accumulator(self.clock.now())
        self.sample()
        self.source = MacosPower(CONTEXT._replace(helper=str(self.file)), self.clock.now)
        self.ticker = ticker_over(self.clock, self.source)
        self.millijoules = 0
        self.ticker.tick()

    def sample(self, joules: float | None = None) -> None:
        """Publish one sample; None = a sample without energy."""
        made = None if joules is None else round(joules * 1e6)
        publish(self.file, self.accumulator.publication(made, self.clock.now()))

    def step(self, joules: float | None, *, tick: bool = True) -> None:
        """Advance ten seconds, publish a sample and poll."""
        self.clock.advance(10_000)
        self.sample(joules)
        if tick:
            self.tick()

    def tick(self, *, last: bool = False) -> None:
        for one in self.ticker.tick(last=last)[1]:
            self.millijoules += sum(energy.energy_millijoules for energy in one.energies)


def test_every_joule_arrives_once(tmp_path):
    """Each joule is counted once; a sample without energy stays a gap."""
    bench = Bench(tmp_path)
    for joules in (30.0, 40.5, 12.25, None, 20.0):
        bench.step(joules)
    bench.tick(last=True)
    # The first value has no earlier one to be subtracted from.
    assert bench.millijoules == 40_500 + 12_250 + 20_000


def test_a_helper_that_was_started_again_gives_no_joules_for_it(tmp_path):
    """A restarted helper's counter is a reset: the agent counts no energy between the two counters."""
    bench = Bench(tmp_path)
    for _ in range(3):
        bench.step(100.0)
    before = bench.millijoules
    bench.clock.advance(2_000)
    bench.accumulator = Accumulator(bench.clock.now())
    bench.step(100.0)
    bench.step(100.0)
    bench.tick(last=True)
    assert bench.millijoules - before in (0, 100_000)


@given(st.data())
def test_two_lives_of_the_helper_never_make_a_difference(data):
    """The difference between two runs of the helper is a reset, whatever their times and energies."""
    began = data.draw(st.integers(0, 10**9))
    samples, missed = data.draw(st.integers(1, 1_000)), data.draw(st.integers(1, 15))
    last = began + samples * 10_000
    again = last + data.draw(st.integers(0, 10**9))
    spent = data.draw(st.integers(1, samples * 10_000_000_000))
    since = data.draw(st.integers(1_000, missed * 10_000_000_000))
    one, other = (
        Accumulator(Instant(0, at, at)).publication(energy, Instant(0, at, at)).readings[0].reading
        for at, energy in ((began, spent), (again, since))
    )
    assert isinstance(one, EnergyCounter)
    assert isinstance(other, EnergyCounter)
    assert isinstance(difference(one, other, again + missed * 10_000 - last), Reset)


def program(folder: Path, body: str) -> list[str]:
    """Write a Python script that replaces powermetrics, and return its command."""
    script = folder / "powermetrics.py"
    script.write_text(body, encoding="utf-8")
    return [sys.executable, "-S", str(script)]


PRINTS = """
import sys
data = open({path!r}, "rb").read()
for number in range({count}):
    sys.stdout.buffer.write((b"\\0" if number else b"") + data)
    sys.stdout.buffer.flush()
"""


def test_a_program_that_prints_is_published(tmp_path):
    """Each sample of a real process replaces the file, and the counter grows."""
    path = FIXTURES / "powermetrics_apple_silicon.plist"
    command = program(tmp_path, PRINTS.format(path=str(path), count=3))
    file = tmp_path / "readings.json"
    helper = PowermetricsHelper(file, command)
    seen = []
    keep = helper._publish
    helper._publish = lambda publication: (seen.append(publication), keep(publication))  # type: ignore[method-assign,assignment,func-returns-value]
    helper.run_program()
    energies = [
        one.reading.energy_microjoules
        for publication in seen
        for one in publication.readings
        if isinstance(one.reading, EnergyCounter)
    ]
    assert len(energies) == 3
    assert energies[2] - energies[0] == pytest.approx(2 * 32_520_799, abs=2_000)
    assert all(energy % 1_000 == 0 for energy in energies)
    last = read_publication(str(file))
    assert (last.points, last.outcomes[0].word) == ((PACKAGE,), "failed")
    assert "has ended" in last.outcomes[0].reason
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import sys; sys.exit('powermetrics must be invoked as the superuser')", "as the superuser"),
        (f"print('*** Sampled system activity ***</plist>', flush=True)\n{HANGS}", "cannot be read"),
        ("", "has ended"),
    ],
)
def test_a_program_that_fails_is_said_with_its_reason(tmp_path, body, reason):
    """A refusal, unknown output and an early end give `failed` with the reason; the program is ended."""
    file = tmp_path / "readings.json"
    PowermetricsHelper(file, program(tmp_path, body)).run_program()
    (outcome,) = read_publication(str(file)).outcomes
    assert outcome.word == "failed"
    assert reason in outcome.reason


def test_no_program_and_no_folder(tmp_path):
    """A missing program is reported in the file; an unwritable file raises an error with the remedy."""
    file = tmp_path / "readings.json"
    PowermetricsHelper(file, ["/nowhere/powermetrics"]).run_program()
    assert "cannot start /nowhere/powermetrics" in read_publication(str(file)).outcomes[0].reason
    with pytest.raises(AgentError, match="launchd"):
        PowermetricsHelper(tmp_path / "none" / "readings.json", ["/nowhere/powermetrics"]).run_program()


def test_the_command_ends_on_sigterm(tmp_path):
    """The real command ends with 0, here without powermetrics."""
    file = tmp_path / "readings.json"
    environment = {**os.environ, "VEILLEUSE_AGENT__PATHS__RAPL_HELPER": str(file)}
    command = [sys.executable, "-P", "-m", "veilleuse.agent", "powermetrics-helper"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        until(file.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_no_helper(tmp_path):
    """A missing helper gives no_permission with a remedy; a virtual machine gives `virtual_machine`."""
    for context in (CONTEXT, CONTEXT._replace(helper=str(tmp_path / "none"))):
        with pytest.raises(SourceUnavailable) as caught:
            MacosPower(context).open()
        assert (caught.value.word, bool(caught.value.remedy)) == ("no_permission", True)
    with pytest.raises(SourceUnavailable) as caught:
        MacosPower(CONTEXT._replace(virtualisation="unknown", helper="x")).open()
    assert caught.value.word == "virtual_machine"


def test_a_silent_helper_is_a_gap(tmp_path):
    """A publication that is too old raises ReadFailed and gives no value."""
    bench = Bench(tmp_path)
    bench.clock.advance(60_000)
    with pytest.raises(ReadFailed, match="nothing recent"):
        bench.source.read()


# ---------------------------------------------------------------------------------------- battery


def on(text: bytes) -> tuple[Supply | None, dict[str, int]]:
    """Return (supply, kind → mW)."""
    source = MacosBattery(CONTEXT, FakeClock().now, lambda: text)
    source.open()
    supply, found = None, {}
    for reading in source.read():
        if isinstance(reading, SupplyReading):
            supply = reading.supply
        elif isinstance(reading, PowerGauge):
            found[str(reading.point.kind)] = reading.power_milliwatts
    return supply, found


def node(**keys: object) -> bytes:
    """Return the output of ioreg for one battery."""
    import plistlib

    return plistlib.dumps([{"BatteryInstalled": True, "Voltage": 12_000, **keys}])


def test_discharging_and_charging():
    """Power = current (written as unsigned) × voltage; no serial number is kept."""
    assert on(fixture("ioreg_discharging")) == (Supply.BATTERY, {"battery_out": 7_098, "battery_in": 0})
    assert on(fixture("ioreg_charging")) == (Supply.AC, {"battery_out": 0, "battery_in": 30_232})
    assert "CANARY" not in repr(battery(fixture("ioreg_discharging")))


@pytest.mark.parametrize("written", [-587, 2**64 - 587, 2**32 - 587, 2**16 - 587])
def test_a_current_that_has_gone_round(written):
    """A negative current may be written as an unsigned number of 16, 32 or 64 bits."""
    told = battery(node(InstantAmperage=written, ExternalConnected=False))
    assert told is not None
    assert told.current_milliamperes == -587


@pytest.mark.parametrize(
    ("keys", "supply", "flows"),
    [
        ({"InstantAmperage": -587, "ExternalConnected": True, "IsCharging": False}, Supply.AC, (7_044, 0)),
        ({"InstantAmperage": 0, "ExternalConnected": True, "IsCharging": False}, Supply.AC, (0, 0)),
        ({"InstantAmperage": 0, "ExternalConnected": False}, Supply.BATTERY, None),
        ({"InstantAmperage": 500, "ExternalConnected": False}, Supply.BATTERY, None),
        ({"InstantAmperage": -500, "ExternalConnected": True, "IsCharging": True}, Supply.AC, None),
        ({"InstantAmperage": 10**6, "ExternalConnected": True}, Supply.AC, None),
        ({"InstantAmperage": -29_000, "ExternalConnected": False, "Voltage": 29_999}, Supply.BATTERY, None),
        ({"InstantAmperage": -500, "ExternalConnected": False, "Voltage": 0}, Supply.BATTERY, None),
        ({"Amperage": -500, "ExternalConnected": False}, Supply.BATTERY, (6_000, 0)),
        ({"ExternalConnected": True}, Supply.AC, None),
    ],
)
def test_direction_and_absence(keys, supply, flows):
    """A battery without mains discharges; contradictory or impossible values are absent."""
    found = None if flows is None else {"battery_out": flows[0], "battery_in": flows[1]}
    assert on(node(**keys)) == (supply, found or {})


def test_asked_once_a_minute():
    """ioreg runs once a minute; between two runs the last answer holds, and a failed run gives no values."""
    clock, asked = FakeClock(), []

    def ask() -> bytes:
        asked.append(clock.now())
        if len(asked) == 3:
            raise ReadFailed("ioreg has not ended within 3 s")
        return fixture("ioreg_discharging")

    source = MacosBattery(CONTEXT, clock.now, ask)
    source.open()
    for _ in range(6):
        assert len(source.read()) == 3
        clock.advance(EVERY_MILLISECONDS // 6)
    assert len(asked) == 2
    with pytest.raises(ReadFailed):
        source.read()
    assert len(source.read()) == 3
    assert len(asked) == 4


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"nonsense", node(BatteryInstalled=False), b"<plist><array/></plist>"]
)
def test_no_battery(text):
    """A Mac without a battery gives no_device."""
    with pytest.raises(SourceUnavailable) as caught:
        MacosBattery(CONTEXT, FakeClock().now, lambda: text).open()
    assert caught.value.word == "no_device"


def test_no_ioreg_here():
    """A system without ioreg gives SourceUnavailable."""
    if Path(IOREG[0]).exists():
        pytest.skip("this is a Mac")
    with pytest.raises(SourceUnavailable, match="cannot start"):
        MacosBattery(CONTEXT).open()


@given(st.one_of(st.binary(max_size=300), st.integers(0, 900).map(lambda n: fixture("ioreg_charging")[:n])))
def test_soup_of_ioreg(soup):
    """Any bytes give a battery, None or ReadFailed."""
    with contextlib.suppress(ReadFailed):
        assert battery(soup) is None or soup


@given(st.integers(), st.integers(), st.booleans(), st.booleans())
def test_no_flow_is_invented(current, voltage, external, charging):
    """For any numbers the power is between 0 and 500 W, in one direction at most."""
    keys = {
        "InstantAmperage": current,
        "Voltage": voltage,
        "ExternalConnected": external,
        "IsCharging": charging,
    }
    try:
        _, found = on(node(**keys))
    except OverflowError:  # plistlib writes no integer wider than 64 bits
        return
    assert all(0 <= power <= 500_000 for power in found.values())
    assert min(found.values(), default=0) == 0
