# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Devices, drivers and helpers that come after the agent, go, and come back: found without a restart, nothing
invented."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest

from tests.support.fakes.measuring import FakeClock
from tests.support.trees import context, put, zone
from veilleuse.agent import sources as table
from veilleuse.agent.commands.rapl_helper import RaplHelper
from veilleuse.agent.errors import PointsChanged, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, Reading, SupplyReading, Tick
from veilleuse.agent.platforms import instant_now
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.resident.open_sources import LateSources
from veilleuse.agent.resident.ticker import Ticker
from veilleuse.agent.sources import linux_rapl as rapl_module
from veilleuse.agent.sources import open_all
from veilleuse.agent.sources.linux_battery import LinuxBattery
from veilleuse.agent.sources.linux_hwmon import LinuxHwmon
from veilleuse.agent.sources.linux_rapl import LinuxRapl
from veilleuse.agent.sources.snapshot import Publication, publish, read_publication
from veilleuse.agent.sources.utilisation import Utilisation
from veilleuse.wire.vocabulary import PointKind, Supply

MINUTE = 60_000


class Bench:
    """A ticker over sources of a tree."""

    def __init__(self, *sources: LinuxBattery | LinuxHwmon | LinuxRapl) -> None:
        self.clock = FakeClock()
        opened = tuple((source, source.open()) for source in sources)
        self.ticker = Ticker(self.clock, opened, None, default_supply=Supply.AC, tick_milliseconds=10_000)
        self.ticker.tick()

    def step(self) -> tuple[Tick, ...]:
        self.clock.advance(10_000)
        return self.ticker.tick()[1]


def battery(tree: Path, name: str, **files: object) -> None:
    """A battery that discharges at 9 W."""
    told = {"type": "Battery", "status": "Discharging", "power_now": 9_000_000, **files}
    for file, text in told.items():
        put(tree, f"class/power_supply/{name}/{file}", text)


def adapter(tree: Path, online: int, kind: str = "Mains", name: str = "AC") -> None:
    """What feeds the machine."""
    put(tree, f"class/power_supply/{name}/type", kind)
    put(tree, f"class/power_supply/{name}/online", online)


def joules(ticks: tuple[Tick, ...]) -> dict[str, int]:
    """Millijoules per domain of what flowed out."""
    return {
        energy.point.domain: energy.energy_millijoules
        for tick in ticks
        for energy in tick.energies
        if energy.point.kind is not PointKind.BATTERY_IN
    }


# --------------------------------------------------------------------------------------- batteries


def test_a_second_battery_put_in_while_it_runs(tmp_path):
    """The bay's battery takes over and is seen at the next tick; pulled out again it is missing, and no gap
    of the first."""
    adapter(tmp_path, 0)
    battery(tmp_path, "BAT0")
    bench = Bench(LinuxBattery(context(tmp_path)))
    assert joules(bench.step()) == {"BAT0": 90_000}
    battery(tmp_path, "BAT0", status="Unknown", power_now=0)
    battery(tmp_path, "BAT1", power_now=11_000_000)
    assert joules(bench.step()) == {"BAT0": 0, "BAT1": 110_000}
    shutil.rmtree(tmp_path / "sys/class/power_supply/BAT1")
    battery(tmp_path, "BAT0")
    (tick,) = bench.step()
    assert joules((tick,)) == {"BAT0": 90_000}
    assert tick.gaps == ()
    assert bench.ticker.polled[0].failures == 0


def test_a_machine_that_starts_without_its_battery(tmp_path):
    """A laptop on mains, its battery beside it: put in and unplugged, it is on battery and measured."""
    adapter(tmp_path, 1)
    bench = Bench(LinuxBattery(context(tmp_path)))
    (tick,) = bench.step()
    assert (tick.supply, tick.energies, tick.gaps) == (Supply.AC, (), ())
    battery(tmp_path, "BAT0")
    adapter(tmp_path, 0)
    (tick,) = bench.step()
    assert (tick.supply, joules((tick,))) == (Supply.BATTERY, {"BAT0": 90_000})


def test_all_that_fed_it_goes_and_comes_back(tmp_path):
    """The driver is unloaded: failed reads, a gap; loaded again: measured again, the same points."""
    adapter(tmp_path, 0)
    battery(tmp_path, "BAT0")
    bench = Bench(LinuxBattery(context(tmp_path)))
    bench.step()
    (tmp_path / "sys/class/power_supply").rename(tmp_path / "aside")
    (tick,) = bench.step()
    assert tick.gaps == (("linux_battery", 10_000),)
    (tmp_path / "aside").rename(tmp_path / "sys/class/power_supply")
    assert joules(bench.step()) == {"BAT0": 90_000}
    assert len(bench.ticker.polled[0].points) == 2


@pytest.mark.parametrize("word", ["Full", "Not charging", "Unknown", "Discharging"])
def test_off_the_mains_something_flows(tmp_path, word):
    """Right after the plug was pulled the word is old and the flow 0: no battery gave a 0 that
    was measured."""
    adapter(tmp_path, 0)
    battery(tmp_path, "BAT0", status=word, power_now=0)
    source = LinuxBattery(context(tmp_path))
    source.open()
    assert source.read() == (SupplyReading(Supply.BATTERY),)
    battery(tmp_path, "BAT1", status="Not charging", power_now=0)
    source.open()
    assert source.read() == (SupplyReading(Supply.BATTERY),)


def test_a_desktop_with_usb_ports(tmp_path):
    """USB-C ports that say `online` 0 are no adapter of a machine without battery: unavailable, not a failure
    at each tick."""
    adapter(tmp_path, 0, "USB", "ucsi-source-psy-USBC000:001")
    with pytest.raises(SourceUnavailable) as caught:
        LinuxBattery(context(tmp_path)).open()
    assert caught.value.word == "no_device"


# ------------------------------------------------------------------------------------------- chips


def chip(tree: Path, number: int, name: str, device: str, **files: object) -> Path:
    """One hwmon chip on a device."""
    folder = tree / "sys/class/hwmon" / f"hwmon{number}"
    place = tree / "sys/devices" / device
    place.mkdir(parents=True, exist_ok=True)
    put(tree, f"class/hwmon/hwmon{number}/name", name)
    for file, text in files.items():
        put(tree, f"class/hwmon/hwmon{number}/{file}", text)
    (folder / "device").symlink_to(place)
    return folder


def test_a_card_that_comes_later(tmp_path):
    """An external card is plugged in, at a lower address: it gets a name of its own, the first
    one keeps its."""
    chip(tmp_path, 0, "amdgpu", "pci/0000:09:00.0", energy1_input=5_000_000)
    bench = Bench(LinuxHwmon(context(tmp_path)))
    bench.step()
    chip(tmp_path, 1, "amdgpu", "pci/0000:05:00.0", energy1_input=5_000_900)
    chip(tmp_path, 2, "nct6775", "isa", power1_input=1)
    put(tmp_path, "class/hwmon/hwmon0/energy1_input", 55_000_000)
    assert joules(bench.step()) == {"amdgpu": 50_000}
    put(tmp_path, "class/hwmon/hwmon1/energy1_input", 65_000_900)
    put(tmp_path, "class/hwmon/hwmon0/energy1_input", 75_000_000)
    assert joules(bench.step()) == {"amdgpu": 20_000, "amdgpu-2": 60_000}


def test_two_cards_change_their_numbers(tmp_path):
    """Both drivers loaded again, in the other order: each counter goes on under its own name."""
    first = chip(tmp_path, 0, "i915", "pci/0000:03:00.0", energy1_input=1_000_000)
    other = chip(tmp_path, 1, "i915", "pci/0000:04:00.0", energy1_input=900_000_000)
    bench = Bench(LinuxHwmon(context(tmp_path)))
    bench.step()
    first.rename(tmp_path / "sys/class/hwmon/hwmon7")
    other.rename(tmp_path / "sys/class/hwmon/hwmon0")
    put(tmp_path, "class/hwmon/hwmon7/energy1_input", 2_000_000)
    put(tmp_path, "class/hwmon/hwmon0/energy1_input", 902_000_000)
    assert joules(bench.step()) == {"i915": 1_000, "i915-2": 2_000}


# -------------------------------------------------------------------------------------------- RAPL


def test_psys_of_two_sockets_after_a_reload(tmp_path):
    """Both zones are called psys: after the driver was loaded again the one that counts is found, not the
    other one."""
    zone(tmp_path, "0", "package-0", 1_000_000)
    zone(tmp_path, "1", "psys", 9_000_000)
    zone(tmp_path, "2", "psys", 0)
    source = LinuxRapl(context(tmp_path))
    source.open()
    (tmp_path / "sys/class/powercap").rename(tmp_path / "unloaded")
    zone(tmp_path, "0", "package-0", 1_000_005)
    zone(tmp_path, "1", "psys", 9_000_005)
    zone(tmp_path, "2", "psys", 0)
    found = [one.energy_microjoules for one in source.read() if isinstance(one, EnergyCounter)]
    assert found == [1_000_005, 9_000_005]


def test_a_zone_that_stays_at_zero_is_not_looked_for(tmp_path, monkeypatch):
    """Some memory zones count nothing, for ever: no search through the whole tree at each tick for their
    sake."""
    zone(tmp_path, "0", "package-0", 1_000_000)
    zone(tmp_path, "0:0", "dram", 0)
    source = LinuxRapl(context(tmp_path))
    source.open()

    def no_search(folder: str) -> list[str]:
        raise AssertionError(folder)

    monkeypatch.setattr(rapl_module, "entries", no_search)
    assert len(source.read()) == 1


def test_a_helper_that_began_again_with_other_zones(tmp_path):
    """The helper offers one more zone but has read nothing yet: the agent asks again until it has, and goes
    on."""
    published = tmp_path / "readings.json"
    tree = tmp_path / "seen by root"
    zone(tree, "0", "package-0", 1_000_000)
    helper = RaplHelper(context(tree), published, instant_now)
    helper.step()
    source = LinuxRapl(context(tmp_path, helper=published))
    source.open()
    said = read_publication(str(published))
    memory = Point(PointKind.RAPL, "dram-0", said.points[0].boundary)
    publish(published, Publication((), (*said.points, memory), ()), mode=0o640)
    with pytest.raises(PointsChanged):
        source.read()
    with pytest.raises(SourceUnavailable):
        source.open()
    with pytest.raises(PointsChanged):  # not a source that is dead for good
        source.read()


# ---------------------------------------------------------------------------------- after the start


class Settings:
    """What `open_all` was asked."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        put(tree, "../proc/stat", "cpu  1 0 0 9 0 0 0 0 0 0\ncpu0 1 0 0 9 0 0 0 0 0 0\n")
        self.opened = open_all(("linux_rapl", "linux_battery"), context(tree))
        self.late = LateSources(lambda: context(tree))
        self.ticker = Ticker(FakeClock(), (), None, default_supply=Supply.AC, tick_milliseconds=10_000)

    def look(self, boottime: int) -> list[str]:
        """Look again; what has been opened by now."""
        self.opened = self.late.retry_unavailable(self.opened, self.ticker, boottime)
        return [polled.source.name for polled in self.ticker.polled]


def test_a_driver_loaded_after_the_agent(tmp_path):
    """At the next look, and with its points; what is still not there stays unavailable with its reason."""
    bench = Settings(tmp_path)
    assert {one.name for one in bench.opened.unavailable} == {"linux_rapl", "linux_battery"}
    assert bench.look(MINUTE) == []
    zone(tmp_path, "0", "package-0", 1_000_000)
    assert bench.look(2 * MINUTE) == []  # the wait has grown
    assert bench.look(4 * MINUTE) == ["linux_rapl"]
    assert [one.name for one in bench.opened.unavailable] == ["linux_battery"]
    assert [point.domain for point in bench.ticker.polled[0].points] == ["package-0"]


def test_looking_for_what_is_not_there_costs_little(tmp_path, monkeypatch):
    """Soon after the start often, then once an hour: some thirty times a day, not 288 or 1,440."""
    bench = Settings(tmp_path)
    tried: list[str] = []

    def not_there(self: LinuxRapl) -> tuple[Point, ...]:
        tried.append(self.name)
        raise SourceUnavailable("no_device", "none")

    monkeypatch.setattr(LinuxRapl, "open", not_there)
    for minute in range(1, 1_440):
        bench.look(minute * MINUTE)
    assert 24 <= len(tried) <= 32


def test_a_virtual_machine_is_not_asked_again(tmp_path, monkeypatch):
    """What a virtual machine has not, it will not get."""
    opened = open_all(("linux_rapl",), context(tmp_path, "kvm"))
    monkeypatch.setattr(LinuxRapl, "open", lambda self: pytest.fail("asked"))
    late = LateSources(lambda: context(tmp_path, "kvm"))
    ticker = Ticker(FakeClock(), (), None, default_supply=Supply.AC, tick_milliseconds=10_000)
    assert late.retry_unavailable(opened, ticker, MINUTE) == opened


class Defective:
    """`ports.Source` with a defect in `open`."""

    name = "linux_rapl"

    def __init__(self, context: SourceContext) -> None:
        pass

    def open(self) -> tuple[Point, ...]:
        raise IndexError("list index out of range")

    def read(self) -> tuple[Reading, ...]:
        raise AssertionError

    def close(self) -> None:
        pass


def test_a_source_whose_open_has_a_defect_stops_nobody(tmp_path, monkeypatch):
    """Neither the start nor, later, the loop: it is unavailable, with the defect as its reason."""
    monkeypatch.setitem(table.BUILTIN, "linux_rapl", f"{__name__}:Defective")
    monkeypatch.setattr(table, "_load_class", lambda name, target: _load(name, target))
    adapter(tmp_path, 1)
    opened = open_all(("linux_rapl", "linux_battery"), context(tmp_path))
    assert [one.source.name for one in opened.opened] == ["linux_battery"]
    missing = opened.unavailable[0]
    assert "list index out of range" in missing.reason
    late = LateSources(lambda: context(tmp_path))
    ticker = Ticker(FakeClock(), (), None, default_supply=Supply.AC, tick_milliseconds=10_000)
    assert missing[:4] in [one[:4] for one in late.retry_unavailable(opened, ticker, MINUTE).unavailable]


_loaded = table._load_class


def _load(name: str, target: str) -> object:
    return Defective if name == "linux_rapl" else _loaded(name, target)


# ------------------------------------------------------------------------------------- utilisation


def test_interfaces_that_went_are_forgotten(tmp_path, monkeypatch):
    """A host of containers has other veth names by the minute: a year of them stays in nobody's memory."""
    load = Utilisation(context(tmp_path))
    counter = psutil.net_io_counters(pernic=True, nowrap=False)["lo"]
    for number in range(1_000):
        names = {"lo": counter, "eth0": counter, f"veth{number:x}": counter}
        monkeypatch.setattr(psutil, "net_io_counters", lambda names=names, **_: names)
        load.read()
    assert len(load._interfaces) <= 3
