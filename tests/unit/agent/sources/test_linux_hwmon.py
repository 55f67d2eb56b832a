# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the peculiarities of /sys/class/hwmon: averages, samples, sleeping cards, false values,
renumbering."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.trees import context, put
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, PowerGauge
from veilleuse.agent.sources.linux_hwmon import GPU_CEILING_WATTS, MACHINE_CEILING_WATTS, LinuxHwmon


def chip(tree: Path, number: int, name: str, device: str = "", **files: object) -> Path:
    """Write the files of a chip and return its device's folder.

    With `device`, the chip is in that device's folder with links to it, as on a real machine.
    """
    where = f"devices/{device}/hwmon/hwmon{number}" if device else f"class/hwmon/hwmon{number}"
    for file, text in {"name": name, **files}.items():
        put(tree, f"{where}/{file}", text)
    if device:
        link = tree / f"sys/class/hwmon/hwmon{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tree / "sys" / where)
        (tree / "sys" / where / "device").symlink_to(tree / "sys/devices" / device)
    return tree / "sys/devices" / device


def opened(tree: Path) -> LinuxHwmon:
    """Return an opened source on the tree."""
    source = LinuxHwmon(context(tree))
    source.open()
    return source


def values(source: LinuxHwmon) -> dict[str, int]:
    """Return domain → mW or µJ."""
    return {
        one.point.domain: one.power_milliwatts if isinstance(one, PowerGauge) else one.energy_microjoules
        for one in source.read()
        if isinstance(one, (PowerGauge, EnergyCounter))
    }


UNKNOWN = "unknown: it is not known what it feeds"
RAPL = "mirror of the package that RAPL shows"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nouveau", "mirror of what NVIDIA's own library shows"),
        ("amd_energy", RAPL),
        ("fam15h_power", RAPL),
        ("BAT0", "mirror of what linux_battery shows"),
        *((name, UNKNOWN) for name in ("nct6798", "ina226", "corsairpsu", "pmbus")),
    ],
)
def test_chips_that_stay_out(tmp_path, name, why):
    """Chips with an unknown load or a better source are not counted, and `doctor` gets the reason.

    The test finds chips that are dropped without a reason.
    """
    device = f"power_supply/{name}" if name == "BAT0" else "pci/0"
    chip(tmp_path, 0, name, device, power1_input=60_000_000, power1_average=60_000_000, energy1_input=5)
    source = LinuxHwmon(context(tmp_path))
    with pytest.raises(SourceUnavailable):
        source.open()
    assert source.not_counted() == ((f"hwmon0 {name}", why),)


def test_chips_beside_one_that_counts(tmp_path):
    """A counted chip is not listed; each other one has its reason."""
    chip(tmp_path, 0, "amdgpu", "pci/0", power1_average=31_000_000)
    chip(tmp_path, 1, "amdgpu", "pci/1", power1_average=15_000_000, in1_input=900)
    chip(tmp_path, 2, "coretemp", "cpu/0", temp1_input=45_000)
    chip(tmp_path, 3, "power_meter", "acpi/0", power1_average=15_000_000, power1_is_battery=1)
    assert opened(tmp_path).not_counted() == (
        ("hwmon1 amdgpu", "nested in the processor's package"),
        ("hwmon2 coretemp", "shows no power and no energy"),
        ("hwmon3 power_meter", "measures a battery, not the wall"),
    )


def test_a_meter_on_a_battery(tmp_path):
    """An ACPI meter of a battery does not measure the machine's wall power."""
    chip(tmp_path, 0, "power_meter", power1_average=60_000_000, power1_is_battery=1)
    with pytest.raises(SourceUnavailable):
        opened(tmp_path)
    put(tmp_path, "class/hwmon/hwmon0/power1_is_battery", 0)
    assert values(opened(tmp_path)) == {"power_meter": 60_000}


def test_average_before_sample(tmp_path):
    """The chip's average is preferred; if it is unreadable at opening, only the sample is read."""
    chip(tmp_path, 0, "amdgpu", power1_average=31_000_000, power1_input=90_000_000)
    assert values(opened(tmp_path)) == {"amdgpu": 31_000}
    put(tmp_path, "class/hwmon/hwmon0/power1_average", "")
    source = opened(tmp_path)
    assert values(source) == {"amdgpu": 90_000}
    put(tmp_path, "class/hwmon/hwmon0/power1_average", 31_000_000)
    assert values(source) == {"amdgpu": 90_000}


def test_a_counter_is_never_mixed_with_a_gauge(tmp_path):
    """If a counter cannot be read, the power beside it is not used: that would count the time twice."""
    chip(tmp_path, 0, "amdgpu", power1_average=31_000_000, energy1_input=7)
    source = opened(tmp_path)
    assert values(source) == {"amdgpu": 7}
    put(tmp_path, "class/hwmon/hwmon0/energy1_input", "")
    with pytest.raises(ReadFailed):
        source.read()


def test_xe_card_else_package(tmp_path):
    """The card's counter is preferred; the package's counter is the fallback."""
    chip(tmp_path, 0, "xe", "0000:03:00.0", energy1_input=70, energy2_input=50)
    chip(tmp_path, 1, "xe", "0000:04:00.0", energy2_input=51)
    assert values(opened(tmp_path)) == {"xe": 70, "xe-2": 51}


@pytest.mark.parametrize("status", ["suspended", "suspending", "resuming"])
def test_a_sleeping_card_is_not_woken(tmp_path, status, monkeypatch):
    """Neither opening nor reading opens a power file of a sleeping card."""
    chip(tmp_path, 0, "amdgpu", power1_average=31_000_000)
    put(tmp_path, "class/hwmon/hwmon0/device/power/runtime_status", status)
    touched: list[str] = []
    true_open = os.open

    def noting_open(path: str, *more: int) -> int:
        touched.append(path)
        return true_open(path, *more)

    monkeypatch.setattr(os, "open", noting_open)
    source = opened(tmp_path)
    with pytest.raises(ReadFailed):
        source.read()
    assert not [path for path in touched if "power1" in path]
    monkeypatch.undo()
    put(tmp_path, "class/hwmon/hwmon0/device/power/runtime_status", "active")
    assert values(source) == {"amdgpu": 31_000}


def test_what_no_machine_draws_is_not_read(tmp_path):
    """Power above its class's ceiling, 0 or negative is dropped; the ceiling itself counts."""
    chip(tmp_path, 0, "power_meter", power1_average=int(MACHINE_CEILING_WATTS * 1e6))
    chip(tmp_path, 1, "amdgpu", power1_average=int(GPU_CEILING_WATTS * 1e6) + 1_000)
    source = opened(tmp_path)
    assert values(source) == {"power_meter": MACHINE_CEILING_WATTS * 1_000}
    put(tmp_path, "class/hwmon/hwmon1/power1_average", 5_000_000)
    for lie in (int(MACHINE_CEILING_WATTS * 1e6) + 1_000, 0, -5_000_000, 2**64 - 1):
        put(tmp_path, "class/hwmon/hwmon0/power1_average", lie)
        assert values(source) == {"amdgpu": 5_000}


def test_a_driver_loaded_again_has_another_number(tmp_path):
    """If the hwmon numbers of two cards are exchanged, each point stays with its card."""
    first = chip(tmp_path, 3, "amdgpu", "0000:03:00.0", power1_average=31_000_000)
    second = chip(tmp_path, 4, "amdgpu", "0000:09:00.0", power1_average=80_000_000)
    source = opened(tmp_path)
    assert values(source) == {"amdgpu": 31_000, "amdgpu-2": 80_000}
    shutil.rmtree(tmp_path / "sys/class/hwmon")
    with pytest.raises(ReadFailed):
        source.read()
    for device in (first, second):  # moved, not removed: a real sysfs never reuses an inode
        device.rename(device.with_name(f"{device.name}-before"))
    chip(tmp_path, 3, "amdgpu", "0000:09:00.0", power1_average=81_000_000)
    assert values(source) == {"amdgpu-2": 81_000}
    chip(tmp_path, 5, "amdgpu", "0000:03:00.0", power1_average=32_000_000)
    assert values(source) == {"amdgpu": 32_000, "amdgpu-2": 81_000}
