# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run `veilleuse-agent doctor --json` on the trees of four machines: ladder, reasons and remedies are right.

The trees are written by hand: tests/fixtures/sys/PROVENANCE.md.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ran
from tests.support.trees import TREES, context
from veilleuse.agent.commands.rapl_helper import RaplHelper
from veilleuse.agent.platforms import instant_now

METHODS = ("metered", "battery", "counter_calibrated", "counter_modelled", "load_modelled", "class_default")
WARNINGS = 3
"""Exit code, because the machine of the test is not enrolled."""


def doctor(tree: Path, state: Path, **paths: Path) -> dict[str, Any]:
    """Return doctor's result for the machine with this tree."""
    told = {"sysfs": tree / "sys", "procfs": tree / "proc", "state": state, "meters": state / "meters.toml"}
    told |= {"rapl_helper": state / "readings.json", **paths}
    variables = {f"VEILLEUSE_AGENT__PATHS__{name.upper()}": str(path) for name, path in told.items()}
    done = ran(
        [sys.executable, "-P", "-m", "veilleuse.agent", "doctor", "--json"],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("VEILLEUSE")}, **variables},
        timeout=60,
    )
    assert done.returncode == WARNINGS, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def sources(result: dict[str, Any]) -> dict[str, Any]:
    """Return source → its row."""
    return {row["name"]: row for row in result["sources"]}


def points(result: dict[str, Any]) -> dict[str, list[str]]:
    """Return source → domains and boundaries, for sources with points."""
    return {
        row["name"]: [f"{point['domain']} {point['boundary']}" for point in row["points"]]
        for row in result["sources"]
        if row["points"]
    }


def not_counted(result: dict[str, Any], name: str) -> dict[str, str]:
    """Return the names that a source sees and does not count → the reason."""
    return {one["name"]: one["why"] for one in sources(result)[name]["not_counted"]}


def rungs(result: dict[str, Any]) -> tuple[str, set[str]]:
    """Return (the machine's method, all its available methods); the ladder must be complete and in order."""
    assert tuple(row["method"] for row in result["ladder"]) == METHODS
    assert all(row["reason"] and row["meaning"] for row in result["ladder"])
    (place,) = (row["method"] for row in result["ladder"] if row["place"])
    return place, {row["method"] for row in result["ladder"] if row["available"]}


def reason(result: dict[str, Any], method: str) -> str:
    """Return why a method is or is not available on this machine."""
    return next(str(row["reason"]) for row in result["ladder"] if row["method"] == method)


def test_a_laptop(tmp_path):
    """A laptop has its battery as method, then its counters with psys; the mouse's battery, the MMIO mirror
    and nested zones do not count."""
    result = doctor(TREES / "laptop", tmp_path)
    assert result["machine"]["device_class"] == "laptop"
    assert points(result) == {
        "linux_rapl": ["dram-0 component", "package-0 component", "psys machine_dc"],
        "linux_battery": ["BAT0 machine_dc", "BAT0 machine_dc"],
    }
    assert rungs(result) == (
        "battery",
        {"battery", "counter_modelled", "load_modelled", "class_default"},
    )
    assert "package-0" in reason(result, "counter_calibrated")
    assert not_counted(result, "linux_rapl") == {
        "intel-rapl-mmio:0 package-0": "mirror of package-0 (intel-rapl:0)",
        "intel-rapl:0:0 core": "nested in package-0",
        "intel-rapl:0:1 uncore": "nested in package-0",
    }
    assert not_counted(result, "linux_hwmon") == {
        "hwmon0 coretemp": "shows no power and no energy",
        "hwmon1 BAT0": "unknown: it is not known what it feeds",
    }
    hwmon = sources(result)["linux_hwmon"]
    assert (hwmon["word"], hwmon["remedy"]) == ("no_device", "servers: load the module acpi_power_meter")


def test_a_tower(tmp_path):
    """A tower's processor, memory and graphics card are components, from which a model computes the wall."""
    result = doctor(TREES / "tower", tmp_path)
    assert result["machine"]["device_class"] == "tower"
    assert points(result) == {
        "linux_rapl": ["dram-0 component", "package-0 component"],
        "linux_hwmon": ["amdgpu component"],
    }
    assert rungs(result) == ("counter_modelled", {"counter_modelled", "load_modelled", "class_default"})
    assert "no battery" in reason(result, "battery")
    assert reason(result, "metered") == "no meter sees this machine at the wall"


def test_an_amd_server_of_two_dies(tmp_path):
    """The server's ACPI meter is at the wall. Both dies of package 0 show one counter, which counts once;
    amd_energy repeats it and does not count."""
    result = doctor(TREES / "server_amd_two_dies", tmp_path)
    assert result["machine"]["device_class"] == "server"
    assert points(result) == {
        "linux_rapl": [f"package-{die} component" for die in ("0-die-0", "1-die-0", "1-die-1")],
        "linux_hwmon": ["power_meter wall"],
    }
    mirror = not_counted(result, "linux_rapl")["intel-rapl:1 package-0-die-1"]
    assert mirror == "mirror of package-0-die-0 (intel-rapl:0)"
    again = {"hwmon1 amd_energy": "mirror of the package that RAPL shows"}
    assert not_counted(result, "linux_hwmon") == again
    assert rungs(result) == ("metered", {"metered", "counter_modelled", "load_modelled", "class_default"})


def test_a_virtual_machine(tmp_path):
    """A virtual machine's energy is its host's: every source of energy says so, with the remedy."""
    result = doctor(TREES / "virtual_machine", tmp_path)
    assert result["machine"]["device_class"] == "virtual_machine"
    assert points(result) == {}
    assert rungs(result) == ("load_modelled", {"load_modelled", "class_default"})
    assert "energy is its host's" in reason(result, "counter_modelled")
    assert "already in its host's" in reason(result, "load_modelled")
    for name in ("linux_rapl", "linux_hwmon"):
        row = sources(result)[name]
        assert (row["available"], row["word"], row["remedy"]) == (
            False,
            "virtual_machine",
            "measure the host",
        )


@pytest.fixture
def closed_tower(tmp_path: Path) -> Path:
    """Return a tower without a graphics card, whose energy counters exist and cannot be read."""
    tree = tmp_path / "tower"
    shutil.copytree(TREES / "tower", tree)
    shutil.rmtree(tree / "sys/class/hwmon")
    for file in tree.glob("sys/class/powercap/*/energy_uj"):
        file.unlink()
        file.symlink_to(tmp_path / "nobody-reads-this")
    return tree


def test_counters_that_only_root_may_read(closed_tower, tmp_path):
    """Unreadable counters give no_permission with both remedies and a warning, not 0 W; the ladder gives the
    reason."""
    result = doctor(closed_tower, tmp_path)
    row = sources(result)["linux_rapl"]
    assert (row["available"], row["word"], row["points"]) == (False, "no_permission", [])
    assert "veilleuse-rapl.service" in row["remedy"]
    assert "udev rule" in row["remedy"]
    assert rungs(result)[0] == "load_modelled"
    assert "not readable by this user" in reason(result, "counter_modelled")
    assert any(warning.startswith("linux_rapl: ") for warning in result["warnings"])


def test_counters_that_the_helper_reads(closed_tower, tmp_path):
    """A machine with the helper has the same points as if it read them itself, and no warning."""
    RaplHelper(context(TREES / "tower"), tmp_path / "readings.json", instant_now).step()
    result = doctor(closed_tower, tmp_path)
    assert points(result) == {"linux_rapl": ["dram-0 component", "package-0 component"]}
    assert not_counted(result, "linux_rapl") == {"intel-rapl:0:0 core": "nested in package-0"}
    assert rungs(result)[0] == "counter_modelled"
    assert not any(warning.startswith("linux_rapl") for warning in result["warnings"])
