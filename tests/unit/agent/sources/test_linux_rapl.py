# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the peculiarities of the powercap tree: mirrors, twins, several psys, reloads, false values."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.trees import LONG_RANGE, SHORT_RANGE, context, put, zone
from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.model import EnergyCounter
from veilleuse.agent.sources import linux_rapl
from veilleuse.agent.sources.linux_rapl import LinuxRapl


def opened(tree: Path) -> tuple[LinuxRapl, list[str]]:
    """Return an opened source on the tree and its domains."""
    source = LinuxRapl(context(tree))
    return source, [point.domain for point in source.open()]


def microjoules(source: LinuxRapl) -> dict[str, int]:
    """Return domain → counter."""
    return {
        one.point.domain: one.energy_microjoules for one in source.read() if isinstance(one, EnergyCounter)
    }


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[Path, float]], None]:
    """Return a function that makes counters advance in each pause, at their power in watts."""

    def run(watts: dict[Path, float]) -> None:
        def pause(seconds: float) -> None:
            for folder, power in watts.items():
                file = folder / "energy_uj"
                file.write_text(f"{(int(file.read_text()) + round(seconds * power * 1e6)) % SHORT_RANGE}\n")

        monkeypatch.setattr(linux_rapl, "time", SimpleNamespace(sleep=pause))

    return run


def test_two_sockets_that_show_one_counter(tmp_path, running):
    """`package-0` and `package-1` that share a counter of 68 W count once (codecarbon 1274)."""
    running({zone(tmp_path, number, f"package-{number}", 5_000_000): 68.0 for number in ("0", "1")})
    assert opened(tmp_path)[1] == ["package-0"]


def test_two_sockets_that_only_look_alike(tmp_path, running):
    """Two packages with equal values soon after a boot differ after a moment, so both count."""
    folders = [zone(tmp_path, number, f"package-{number}", 5_000_000) for number in ("0", "1")]
    running(dict(zip(folders, (40.0, 44.0), strict=True)))
    assert opened(tmp_path)[1] == ["package-0", "package-1"]


def test_what_is_no_mirror(tmp_path, monkeypatch):
    """Equal values are no mirror if both are 0, the ranges differ, or one is the package's memory."""
    monkeypatch.setattr(linux_rapl, "MIRROR_PAUSE_SECONDS", 0.0)
    for number, value, around in (("0", 0, LONG_RANGE), ("1", 0, LONG_RANGE), ("2", 0, SHORT_RANGE)):
        zone(tmp_path, number, f"package-{number}", value, around)
    assert len(opened(tmp_path)[1]) == 3
    for number in "012":
        put(tmp_path, f"class/powercap/intel-rapl:{number}/energy_uj", 7_000_000)
    zone(tmp_path, "0:0", "dram", 7_000_000)
    assert opened(tmp_path)[1] == ["dram-0", "package-0", "package-2"]


def test_mirrors_that_go_round_while_they_are_looked_at(tmp_path, running):
    """A counter that wraps during the comparison is still one counter."""
    begin = SHORT_RANGE - 20_000_000
    running({zone(tmp_path, n, f"package-0-die-{n}", begin, SHORT_RANGE): 68.0 for n in ("0", "1")})
    assert opened(tmp_path)[1] == ["package-0-die-0"]


def test_psys_of_several_sockets_is_one_point(tmp_path):
    """A slave socket's psys stays at 0; the counting one is the platform's, whatever its number."""
    zone(tmp_path, "0", "package-0", 1_000_000)
    zone(tmp_path, "1", "psys", 0)
    zone(tmp_path, "2", "psys-1", 9_000_000)
    source, domains = opened(tmp_path)
    assert domains == ["package-0", "psys"]
    assert microjoules(source) == {"package-0": 1_000_000, "psys": 9_000_000}


def test_the_twin_serves_where_the_other_cannot_be_read(tmp_path):
    """If a package's first zone has no range, only its mmio twin is read."""
    zone(tmp_path, "0", "package-0", 1_000_000)
    zone(tmp_path, "-mmio:0", "package-0", 2_000_000)
    put(tmp_path, "class/powercap/intel-rapl:0/max_energy_range_uj", 0)
    source, _ = opened(tmp_path)
    assert microjoules(source) == {"package-0": 2_000_000}
    put(tmp_path, "class/powercap/intel-rapl:0/max_energy_range_uj", LONG_RANGE)
    shutil.rmtree(tmp_path / "sys/class/powercap/intel-rapl-mmio:0")
    with pytest.raises(ReadFailed):
        source.read()


def test_zones_numbered_anew_after_the_driver_was_loaded_again(tmp_path):
    """After the zones are renumbered, each point continues with its own counter, found by name."""
    zone(tmp_path, "0", "package-0", 1_000_000)
    zone(tmp_path, "0:0", "dram", 3_000_000)
    zone(tmp_path, "1", "psys", 9_000_000)
    source, _ = opened(tmp_path)
    before = microjoules(source)
    # Moved, not removed: a real sysfs never reuses an inode.
    (tmp_path / "sys/class/powercap").rename(tmp_path / "unloaded")
    with pytest.raises(ReadFailed):
        source.read()
    zone(tmp_path, "0", "psys", 9_000_005)
    zone(tmp_path, "1", "package-0", 1_000_005)
    zone(tmp_path, "1:0", "dram", 3_000_005)
    assert microjoules(source) == {domain: value + 5 for domain, value in before.items()}


def test_zones_that_change_places_unseen(tmp_path):
    """A driver reloaded between two reads is noticed by the folder's inode."""
    package, psys = zone(tmp_path, "0", "package-0", 1_000_000), zone(tmp_path, "1", "psys", 9_000_000)
    source, _ = opened(tmp_path)
    package.rename(tmp_path / "aside")
    psys.rename(package)
    (tmp_path / "aside").rename(psys)
    assert microjoules(source) == {"package-0": 1_000_000, "psys": 9_000_000}


@pytest.mark.parametrize("value", [0, -1, LONG_RANGE + 1, "1_000", "18446744073709551615", "", "1e6", "0x10"])
def test_a_value_that_cannot_be_is_not_read(tmp_path, value):
    """0, negative, out of range and invalid values are absent, never 0 W."""
    folder = zone(tmp_path, "0", "package-0", 1_000_000)
    zone(tmp_path, "1", "psys", 9_000_000)
    source, _ = opened(tmp_path)
    (folder / "energy_uj").write_text(f"{value}\n")
    assert microjoules(source) == {"psys": 9_000_000}


def test_core_of_amd_stays_inside_its_package(tmp_path):
    """AMD has only package and core, and the core is part of the package."""
    zone(tmp_path, "0", "package-0", 1_000_000, SHORT_RANGE)
    zone(tmp_path, "0:0", "core", 900_000, SHORT_RANGE)
    assert opened(tmp_path)[1] == ["package-0"]


def test_zones_are_numbered_in_hexadecimal(tmp_path):
    """The kernel calls the 11th zone `intel-rapl:a`: zones `a` to `f`, once dropped, are counted."""
    for number in range(20):
        zone(tmp_path, f"{number:x}", f"package-{number}", 5_000_000 * (number + 1))
        zone(tmp_path, f"{number:x}:b", "dram", 5_000_000 * (number + 1))
    source, domains = opened(tmp_path)
    assert sorted(domains) == sorted(
        f"{what}-{number}" for number in range(20) for what in ("package", "dram")
    )
    assert sum(microjoules(source).values()) == 2 * 5_000_000 * sum(range(1, 21))
    assert source.not_counted() == ()


def test_every_zone_that_is_not_counted_has_its_reason(tmp_path):
    """Each zone that does not count has its reason for `doctor`."""
    for number in ("0", "1"):
        zone(tmp_path, number, f"package-0-die-{number}", 7_000_000)
    zone(tmp_path, "-mmio:0", "package-0-die-0", 7_000_000)
    zone(tmp_path, "0:0", "core", 1_000_000)
    zone(tmp_path, "0:1", "uncore", 1_000_000)
    zone(tmp_path, "0:2", "camera", 1_000_000)
    zone(tmp_path, "2", "psys", 9_000_000)
    zone(tmp_path, "3", "psys-1", 0)
    zone(tmp_path, "4", "package-1", 1_000_000)
    put(tmp_path, "class/powercap/intel-rapl:4/max_energy_range_uj", 0)
    put(tmp_path, "class/powercap/dtpm:0/name", "soc")
    source, domains = opened(tmp_path)
    assert domains == ["package-0-die-0", "psys"]
    unknown = "unknown: it is not known what it counts"
    assert dict(source.not_counted()) == {
        "dtpm:0 soc": unknown,
        "intel-rapl-mmio:0 package-0-die-0": "mirror of package-0-die-0 (intel-rapl:0)",
        "intel-rapl:0:0 core": "nested in package-0-die-0",
        "intel-rapl:0:1 uncore": "nested in package-0-die-0",
        "intel-rapl:0:2 camera": unknown,
        "intel-rapl:1 package-0-die-1": "mirror of package-0-die-0 (intel-rapl:0)",
        "intel-rapl:3 psys-1": "mirror of psys (intel-rapl:2)",
        "intel-rapl:4 package-1": "energy_uj or max_energy_range_uj cannot be read",
    }
