# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test devices, drivers and helpers that appear, vanish and return: no restart and no invented energy."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest

from tests.support.fakes.measuring import FakeClock, ticker_over
from tests.support.trees import context, put, zone
from veilleuse.agent import sources as table
from veilleuse.agent.commands.rapl_helper import RaplHelper
from veilleuse.agent.errors import PointsChanged, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, Reading, SupplyReading, Tick
from veilleuse.agent.platforms import instant_now
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.resident.open_sources import LateSources
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
    """Runs a ticker over sources of a tree."""

    def __init__(self, *sources: LinuxBattery | LinuxHwmon | LinuxRapl) -> None:
        self.clock = FakeClock()
        self.ticker = ticker_over(self.clock, *sources)
        self.ticker.tick()

    def step(self) -> tuple[Tick, ...]:
        self.clock.advance(10_000)
        return self.ticker.tick()[1]


def battery(tree: Path, name: str, **files: object) -> None:
    """Write the files of a battery that discharges at 9 W."""
    told = {"type": "Battery", "status": "Discharging", "power_now": 9_000_000, **files}
    for file, text in told.items():
        put(tree, f"class/power_supply/{name}/{file}", text)


def adapter(tree: Path, online: int, kind: str = "Mains", name: str = "AC") -> None:
    """Write the files of an adapter."""
    put(tree, f"class/power_supply/{name}/type", kind)
    put(tree, f"class/power_supply/{name}/online", online)


def joules(ticks: tuple[Tick, ...]) -> dict[str, int]:
    """Return the energy per domain in mJ, without the energy into batteries."""
    return {
        energy.point.domain: energy.energy_millijoules
        for tick in ticks
        for energy in tick.energies
        if energy.point.kind is not PointKind.BATTERY_IN
    }


# --------------------------------------------------------------------------------------- batteries


def test_a_second_battery_put_in_while_it_runs(tmp_path):
    """A second battery is read at the next tick; its removal is no gap of the first."""
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
    """A laptop that starts on mains without battery is measured on battery after the battery is inserted."""
    adapter(tmp_path, 1)
    bench = Bench(LinuxBattery(context(tmp_path)))
    (tick,) = bench.step()
    assert (tick.supply, tick.energies, tick.gaps) == (Supply.AC, (), ())
    battery(tmp_path, "BAT0")
    adapter(tmp_path, 0)
    (tick,) = bench.step()
    assert (tick.supply, joules((tick,))) == (Supply.BATTERY, {"BAT0": 90_000})


def test_all_that_fed_it_goes_and_comes_back(tmp_path):
    """An unloaded driver gives a gap; loaded again it gives the same points."""
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
    """Just after unplugging, a flow of 0 W is an old value and gives no reading."""
    adapter(tmp_path, 0)
    battery(tmp_path, "BAT0", status=word, power_now=0)
    source = LinuxBattery(context(tmp_path))
    source.open()
    assert source.read() == (SupplyReading(Supply.BATTERY),)
    battery(tmp_path, "BAT1", status="Not charging", power_now=0)
    source.open()
    assert source.read() == (SupplyReading(Supply.BATTERY),)


def test_a_desktop_with_usb_ports(tmp_path):
    """USB-C ports with `online` 0 are no adapter of a machine without battery: the source is unavailable."""
    adapter(tmp_path, 0, "USB", "ucsi-source-psy-USBC000:001")
    with pytest.raises(SourceUnavailable) as caught:
        LinuxBattery(context(tmp_path)).open()
    assert caught.value.word == "no_device"


# ------------------------------------------------------------------------------------------- chips


def chip(tree: Path, number: int, name: str, device: str, **files: object) -> Path:
    """Write the files of a hwmon chip on a device."""
    folder = tree / "sys/class/hwmon" / f"hwmon{number}"
    place = tree / "sys/devices" / device
    place.mkdir(parents=True, exist_ok=True)
    put(tree, f"class/hwmon/hwmon{number}/name", name)
    for file, text in files.items():
        put(tree, f"class/hwmon/hwmon{number}/{file}", text)
    (folder / "device").symlink_to(place)
    return folder


def test_a_card_that_comes_later(tmp_path):
    """A card that appears at a lower address gets a new name; the first card keeps its name."""
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
    """If drivers are loaded again in the other order, each counter keeps its name."""
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
    """Both zones are called psys; after the driver is loaded again, the counting one is found."""
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
    """A memory zone that stays at 0 starts no search of the tree at each tick."""
    zone(tmp_path, "0", "package-0", 1_000_000)
    zone(tmp_path, "0:0", "dram", 0)
    source = LinuxRapl(context(tmp_path))
    source.open()

    def no_search(folder: str) -> list[str]:
        raise AssertionError(folder)

    monkeypatch.setattr(rapl_module, "entries", no_search)
    assert len(source.read()) == 1


def test_a_helper_that_began_again_with_other_zones(tmp_path):
    """If the helper offers a new zone without a value, the agent opens the source again until it succeeds."""
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
    with pytest.raises(PointsChanged):  # the source is not given up
        source.read()


# ---------------------------------------------------------------------------------- after the start


class Settings:
    """Opens two sources of a tree and retries them."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        put(tree, "../proc/stat", "cpu  1 0 0 9 0 0 0 0 0 0\ncpu0 1 0 0 9 0 0 0 0 0 0\n")
        self.opened = open_all(("linux_rapl", "linux_battery"), context(tree))
        self.late = LateSources(lambda: context(tree))
        self.ticker = ticker_over(FakeClock())

    def look(self, boottime: int) -> list[str]:
        """Retry, and return the names of the sources opened so far."""
        self.opened = self.late.retry_unavailable(self.opened, self.ticker, boottime)
        return [polled.source.name for polled in self.ticker.polled]


def test_a_driver_loaded_after_the_agent(tmp_path):
    """A retry opens the source with its points; another one stays unavailable."""
    bench = Settings(tmp_path)
    assert {one.name for one in bench.opened.unavailable} == {"linux_rapl", "linux_battery"}
    assert bench.look(MINUTE) == []
    zone(tmp_path, "0", "package-0", 1_000_000)
    assert bench.look(2 * MINUTE) == []  # the wait has doubled
    assert bench.look(4 * MINUTE) == ["linux_rapl"]
    assert [one.name for one in bench.opened.unavailable] == ["linux_battery"]
    assert [point.domain for point in bench.ticker.polled[0].points] == ["package-0"]


def test_looking_for_what_is_not_there_costs_little(tmp_path, monkeypatch):
    """A missing source is tried some thirty times a day, not 288 or 1,440 times."""
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
    """A virtual machine does not get such hardware later, so its source is not tried again."""
    opened = open_all(("linux_rapl",), context(tmp_path, "kvm"))
    monkeypatch.setattr(LinuxRapl, "open", lambda self: pytest.fail("asked"))
    late = LateSources(lambda: context(tmp_path, "kvm"))
    ticker = ticker_over(FakeClock())
    assert late.retry_unavailable(opened, ticker, MINUTE) == opened


class Defective:
    """Implements `ports.Source` with a defect in `open`."""

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
    """The source is unavailable with the defect as its reason, at the start and at a retry."""
    monkeypatch.setitem(table.BUILTIN, "linux_rapl", f"{__name__}:Defective")
    monkeypatch.setattr(table, "_load_class", lambda name, target: _load(name, target))
    adapter(tmp_path, 1)
    opened = open_all(("linux_rapl", "linux_battery"), context(tmp_path))
    assert [one.source.name for one in opened.opened] == ["linux_battery"]
    missing = opened.unavailable[0]
    assert "list index out of range" in missing.reason
    late = LateSources(lambda: context(tmp_path))
    ticker = ticker_over(FakeClock())
    assert missing[:4] in [one[:4] for one in late.retry_unavailable(opened, ticker, MINUTE).unavailable]


_loaded = table._load_class


def _load(name: str, target: str) -> object:
    return Defective if name == "linux_rapl" else _loaded(name, target)


# ------------------------------------------------------------------------------------- utilisation


def test_interfaces_that_went_are_forgotten(tmp_path, monkeypatch):
    """A host of containers has new veth names every minute: old names do not stay in memory."""
    load = Utilisation(context(tmp_path))
    counter = psutil.net_io_counters(pernic=True, nowrap=False)["lo"]
    for number in range(1_000):
        names = {"lo": counter, "eth0": counter, f"veth{number:x}": counter}
        monkeypatch.setattr(psutil, "net_io_counters", lambda names=names, **_: names)
        load.read()
    assert len(load._interfaces) <= 3
