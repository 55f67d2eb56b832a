# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test sources on trees of kernel files, also broken ones. Their origin: tests/fixtures/sys/PROVENANCE.md."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from veilleuse.agent.errors import ConfigurationError, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, PowerGauge, SupplyReading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources import BUILTIN, open_all
from veilleuse.agent.sources.fake import Fake
from veilleuse.agent.sources.linux_battery import LinuxBattery
from veilleuse.agent.sources.linux_hwmon import LinuxHwmon
from veilleuse.agent.sources.linux_rapl import LinuxRapl
from veilleuse.agent.sources.utilisation import Utilisation
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

TREES = Path(__file__).parents[3] / "fixtures" / "sys"


def context(tree: Path, virtualisation: str = "none", fake_watts: float = 0.0) -> SourceContext:
    """Return the context of a tree."""
    return SourceContext(f"{tree}/sys", f"{tree}/proc", virtualisation, fake_watts)


@pytest.fixture
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a copy of a captured tree, the laptop's by default."""
    name = getattr(request, "param", "laptop")
    shutil.copytree(TREES / name, tmp_path / name)
    return tmp_path / name


def put(tree: Path, file: str, text: object) -> None:
    """Write a file of sysfs."""
    path = tree / "sys" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as the user `nobody` if the tests run as root, for whom permissions are not checked."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


# ------------------------------------------------------------------------------------------ rapl


def test_rapl_of_a_laptop():
    """Package, dram and psys are offered, not core, uncore and mmio twin; only psys covers the machine."""
    source = LinuxRapl(context(TREES / "laptop"))
    points = source.open()
    assert {(p.domain, p.boundary) for p in points} == {
        ("package-0", Boundary.COMPONENT),
        ("dram-0", Boundary.COMPONENT),
        ("psys", Boundary.MACHINE_DC),
    }
    readings = {r.point.domain: r for r in source.read() if isinstance(r, EnergyCounter)}
    assert readings["package-0"].energy_microjoules == 184_467_440_737
    assert readings["package-0"].range_microjoules == 262_143_328_850


def test_rapl_of_two_dies():
    """Dies that share a counter are one point, and dies that differ are two."""
    points = LinuxRapl(context(TREES / "server_amd_two_dies")).open()
    assert [p.domain for p in points] == ["package-0-die-0", "package-1-die-0", "package-1-die-1"]


def test_rapl_nested_folders(tmp_path):
    """Zones are found within their parents, not only in the class folder."""
    base = tmp_path / "sys/class/powercap/intel-rapl/intel-rapl:0"
    for folder, name in ((base, "package-0"), (base / "intel-rapl:0:0", "dram")):
        folder.mkdir(parents=True)
        (folder / "name").write_text(name)
        (folder / "energy_uj").write_text("1")
        (folder / "max_energy_range_uj").write_text("1000000")
    assert [p.domain for p in LinuxRapl(context(tmp_path)).open()] == ["dram-0", "package-0"]


def test_rapl_only_by_mmio(tree):
    """The mmio twin is read if the package has no other zone."""
    for name in ("0", "0:0", "0:1", "0:2", "1"):
        shutil.rmtree(tree / f"sys/class/powercap/intel-rapl:{name}")
    assert [p.domain for p in LinuxRapl(context(tree)).open()] == ["package-0"]


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj"])
def test_rapl_without_permission(tree, file):
    """Files that only root may read give no_permission with the remedy."""
    for path in tree.glob(f"sys/class/powercap/*/{file}"):
        path.chmod(0o400)
    for folder in [tree, *tree.parents]:
        if folder.stat().st_mode & 0o777 == 0o700:  # pytest's own folders
            folder.chmod(0o755)
    with as_nobody(), pytest.raises(SourceUnavailable) as caught:
        LinuxRapl(context(tree)).open()
    assert caught.value.word == "no_permission"
    assert "veilleuse-rapl" in caught.value.remedy


def test_rapl_zone_without_range_is_dropped(tree):
    """A counter without a readable range does not count: a wrap could not be recognised."""
    shutil.rmtree(tree / "sys/class/powercap/intel-rapl-mmio:0")
    put(tree, "class/powercap/intel-rapl:0/max_energy_range_uj", "")
    assert "package-0" not in {p.domain for p in LinuxRapl(context(tree)).open()}


def test_rapl_driver_unloaded(tree):
    """A lost zone is missing from the readings; without any zone the read fails."""
    source = LinuxRapl(context(tree))
    source.open()
    put(tree, "class/powercap/intel-rapl:0/energy_uj", "garbage")
    assert {r.point.domain for r in source.read() if isinstance(r, EnergyCounter)} == {"psys", "dram-0"}
    shutil.rmtree(tree / "sys/class/powercap")
    with pytest.raises(ReadFailed):
        source.read()


@pytest.mark.parametrize("source", [LinuxRapl, LinuxHwmon])
def test_a_virtual_machine_says_so(source):
    """A virtual machine's sources are unavailable instead of 0 W, even if its hypervisor is unknown."""
    with pytest.raises(SourceUnavailable) as caught:
        source(context(TREES / "virtual_machine", "kvm")).open()
    assert caught.value.word == "virtual_machine"
    with pytest.raises(SourceUnavailable) as caught:
        source(context(TREES / "virtual_machine")).open()
    assert caught.value.word == "no_device"


# ----------------------------------------------------------------------------------------- hwmon


def test_hwmon_by_role():
    """The ACPI meter covers the wall; the package's chip does not count beside RAPL."""
    source = LinuxHwmon(context(TREES / "server_amd_two_dies"))
    (point,) = source.open()
    assert (point.kind, point.domain, point.boundary) == (PointKind.HWMON, "power_meter", Boundary.WALL)
    assert source.read() == (PowerGauge(point, 287_000),)


def test_hwmon_never_zero(tree):
    """A whole machine's meter with 0 W raises ReadFailed."""
    put(tree, "class/hwmon/hwmon7/name", "power_meter")
    put(tree, "class/hwmon/hwmon7/power1_average", 0)
    source = LinuxHwmon(context(tree))
    source.open()
    with pytest.raises(ReadFailed):
        source.read()


def test_hwmon_gpus(tree):
    """Discrete cards are components; an integrated GPU is left to RAPL; a sleeping card is not read."""
    put(tree, "class/hwmon/hwmon3/name", "amdgpu")
    put(tree, "class/hwmon/hwmon3/power1_average", 31_000_000)
    put(tree, "class/hwmon/hwmon4/name", "amdgpu")
    put(tree, "class/hwmon/hwmon4/power1_average", 15_000_000)
    put(tree, "class/hwmon/hwmon4/in1_input", 700)
    put(tree, "class/hwmon/hwmon5/name", "xe")
    put(tree, "class/hwmon/hwmon5/energy1_input", 99_000_000)
    source = LinuxHwmon(context(tree))
    points = source.open()
    assert [(p.kind, p.domain, p.boundary) for p in points] == [
        (PointKind.GPU, "amdgpu", Boundary.COMPONENT),
        (PointKind.GPU, "xe", Boundary.COMPONENT),
    ]
    readings = source.read()
    assert readings[0] == PowerGauge(points[0], 31_000)
    assert isinstance(readings[1], EnergyCounter)
    assert readings[1].energy_microjoules == 99_000_000
    put(tree, "class/hwmon/hwmon3/device/power/runtime_status", "suspended")
    assert len(source.read()) == 1


# --------------------------------------------------------------------------------------- battery


def battery(tree: Path) -> tuple[Supply | None, dict[PointKind, int]]:
    """Return (supply, mW per kind) of a tree."""
    source = LinuxBattery(context(tree))
    source.open()
    readings = source.read()
    supply = next((r.supply for r in readings if isinstance(r, SupplyReading)), None)
    return supply, {r.point.kind: r.power_milliwatts for r in readings if isinstance(r, PowerGauge)}


def test_on_battery():
    """In discharge, the power out is measured and the power in is 0; the mouse's battery does not count."""
    source = LinuxBattery(context(TREES / "laptop"))
    assert [p.domain for p in source.open()] == ["BAT0", "BAT0"]
    assert battery(TREES / "laptop") == (
        Supply.BATTERY,
        {PointKind.BATTERY_OUT: 9_320, PointKind.BATTERY_IN: 0},
    )


@pytest.mark.parametrize("sign", ["", "-"])
def test_current_times_voltage(tree, sign):
    """Without power_now, power is |current| × voltage, and the status gives the direction."""
    (tree / "sys/class/power_supply/BAT0/power_now").unlink()
    put(tree, "class/power_supply/BAT0/current_now", f"{sign}800000")
    assert battery(tree)[1][PointKind.BATTERY_OUT] == 9_288


def test_on_mains(tree):
    """Charging is no consumption; a full battery gives zeros; `Unknown` gives no power."""
    put(tree, "class/power_supply/AC/online", 1)
    put(tree, "class/power_supply/BAT0/status", "Charging")
    assert battery(tree) == (Supply.AC, {PointKind.BATTERY_OUT: 0, PointKind.BATTERY_IN: 9_320})
    put(tree, "class/power_supply/BAT0/status", "Full")
    put(tree, "class/power_supply/BAT0/power_now", 0)
    assert battery(tree) == (Supply.AC, {PointKind.BATTERY_OUT: 0, PointKind.BATTERY_IN: 0})
    put(tree, "class/power_supply/BAT0/status", "Unknown")
    assert battery(tree) == (Supply.AC, {})


def test_nothing_to_say_about_supply(tree):
    """Without any supply the read fails, and the source is unavailable."""
    source = LinuxBattery(context(tree))
    source.open()
    shutil.rmtree(tree / "sys/class/power_supply")
    with pytest.raises(ReadFailed):
        source.read()
    with pytest.raises(SourceUnavailable):
        LinuxBattery(context(tree)).open()


# ----------------------------------------------------------------------------------- utilisation


@pytest.mark.parametrize(
    ("name", "disk_bytes", "network_bytes"),
    [
        ("laptop", 28_000 * 512, 890_000),
        ("tower", 10_000 * 512, 440_000),
        ("server_amd_two_dies", 30_000 * 512, 1_700_000),
        ("virtual_machine", 10_057_018 * 512, 816_250_685),
    ],
)
def test_bytes_are_counted_once(name, disk_bytes, network_bytes):
    """Only whole disks and real interfaces count: partitions, bridges and tunnels repeat their bytes."""
    source = Utilisation(context(TREES / name))
    source.open()
    counters = source.read()
    assert (counters.disk_bytes, counters.network_bytes) == (disk_bytes, network_bytes)
    assert set(counters.cpu_busy_milliseconds) == {70_500}
    assert set(counters.cpu_total_milliseconds) == {973_500}
    assert counters.memory_used_ratio == pytest.approx(0.4)


def test_what_cannot_be_read_is_none(tmp_path):
    """Unreadable disks and network are None; without CPU times there is no source."""
    shutil.copytree(TREES / "laptop", tmp_path / "t")
    (tmp_path / "t/proc/diskstats").unlink()
    (tmp_path / "t/proc/net/dev").write_text("garbage")
    source = Utilisation(context(tmp_path / "t"))
    source.open()
    counters = source.read()
    assert (counters.disk_bytes, counters.network_bytes) == (None, None)
    (tmp_path / "t/proc/stat").write_text("")
    with pytest.raises(ReadFailed):
        source.read()
    (tmp_path / "t/proc/stat").unlink()
    with pytest.raises(SourceUnavailable):
        Utilisation(context(tmp_path / "t")).open()


# ------------------------------------------------------------------------------------- the table


def test_the_default_set():
    """The defaults are all sources but fake and units; each missing one has its word."""
    sources = open_all((), context(TREES / "laptop"))
    here = [opened.source.name for opened in sources.opened]
    missing = {one.name: one.word for one in sources.unavailable}
    assert sorted([*here, *missing]) == sorted(BUILTIN.keys() - {"fake", "linux_units"})
    assert here[:2] == ["linux_rapl", "linux_battery"]
    assert missing["linux_hwmon"] == "no_device"
    assert sources.load is not None
    sources.close()


def test_chosen_sources():
    """Only named sources open; the fake one needs a power; an unknown name raises ConfigurationError."""
    sources = open_all(("fake", "utilisation"), context(TREES / "laptop", fake_watts=12.0))
    assert [opened.points[0].kind for opened in sources.opened] == [PointKind.FAKE]
    assert open_all(("fake",), context(TREES / "laptop")).unavailable[0].name == "fake"
    with pytest.raises(ConfigurationError, match="nearest known one is 'linux_rapl'"):
        open_all(("linux_rap",), context(TREES / "laptop"))


def test_the_fake_is_labelled():
    """The fake source's point has the kind FAKE."""
    source = Fake(context(TREES / "laptop", fake_watts=12.5))
    (point,) = source.open()
    assert point.kind is PointKind.FAKE
    first, second = source.read()[0], source.read()[0]
    assert isinstance(first, EnergyCounter)
    assert isinstance(second, EnergyCounter)
    assert second.energy_microjoules >= first.energy_microjoules


@pytest.mark.parametrize("watts", [0.1, 5, 100, 100_000])
def test_the_fake_measures_at_every_tick(watts):
    """The fake counter cannot wrap within the longest tick of 60 s: the ticker drops what could have wrapped.

    With the default tick of 10 s it once measured nothing at all.
    """
    reading = Fake(context(TREES / "laptop", fake_watts=watts)).read()[0]
    assert isinstance(reading, EnergyCounter)
    assert reading.range_microjoules is not None
    assert watts < reading.ceiling_watts < reading.range_microjoules / 1e6 / 60


def test_names_are_their_keys():
    """Each class has the name of its key in the table."""
    for name, target in BUILTIN.items():
        module, _, attribute = target.partition(":")
        assert getattr(__import__(module, fromlist=[attribute]), attribute).name == name
