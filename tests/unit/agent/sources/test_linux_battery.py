# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the peculiarities of /sys/class/power_supply: signs, units, words, two batteries, false chargers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.trees import context, put
from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import PowerGauge, SupplyReading
from veilleuse.agent.sources.linux_battery import BATTERY_CEILING_MILLIWATTS, LinuxBattery
from veilleuse.wire.vocabulary import PointKind, Supply

OUT, IN = PointKind.BATTERY_OUT, PointKind.BATTERY_IN


def supply(tree: Path, name: str, **files: object) -> None:
    """Write the files of one supply."""
    for file, text in files.items():
        put(tree, f"class/power_supply/{name}/{file}", text)


def battery(tree: Path, name: str = "BAT0", **files: object) -> None:
    """Write the files of a battery that discharges at 9.32 W, unless `files` differ; None = no file."""
    told = {
        "type": "Battery",
        "status": "Discharging",
        "power_now": 9_320_000,
        "voltage_now": 11_610_000,
        **files,
    }
    supply(tree, name, **{file: text for file, text in told.items() if text is not None})


def read(tree: Path) -> tuple[Supply, dict[tuple[str, PointKind], int]]:
    """Return the supply, and mW per battery and direction."""
    source = LinuxBattery(context(tree))
    source.open()
    readings = source.read()
    gauges = [one for one in readings if isinstance(one, PowerGauge)]
    (told,) = (one.supply for one in readings if isinstance(one, SupplyReading))
    return told, {(one.point.domain, one.point.kind): one.power_milliwatts for one in gauges}


def flows(out: int, into: int, name: str = "BAT0") -> dict[tuple[str, PointKind], int]:
    """Return both points of one battery."""
    return {(name, OUT): out, (name, IN): into}


@pytest.mark.parametrize("online", [0, 1])
@pytest.mark.parametrize("power", [9_320_000, -9_320_000])
def test_the_sign_says_nothing(tmp_path, online, power):
    """qualcomm-battmgr gives a negative power in discharge, ACPI a positive one: only the status counts."""
    supply(tmp_path, "AC", type="Mains", online=online)
    battery(tmp_path, power_now=power)
    assert read(tmp_path)[1] == flows(9_320, 0)
    battery(tmp_path, power_now=power, status="Charging")
    assert read(tmp_path) == (Supply.AC, flows(0, 9_320))


def test_discharging_on_mains(tmp_path):
    """With a weak USB-C charger or in a firmware's cycle, the supply is AC and the discharge counts."""
    supply(tmp_path, "AC", type="Mains", online=1)
    supply(tmp_path, "ucsi-source-psy-1", type="USB", online=1)
    battery(tmp_path)
    assert read(tmp_path) == (Supply.AC, flows(9_320, 0))
    battery(tmp_path, power_now=0)
    assert read(tmp_path) == (Supply.AC, flows(0, 0)), "a battery may rest while it is told to discharge"


def test_a_usb_port_left_on(tmp_path):
    """With mains off and a discharging battery, a USB port still `online` is no supply."""
    supply(tmp_path, "AC", type="Mains", online=0)
    supply(tmp_path, "ucsi-source-psy-1", type="USB", online=1)
    battery(tmp_path)
    assert read(tmp_path)[0] is Supply.BATTERY
    battery(tmp_path, status="Charging")
    assert read(tmp_path)[0] is Supply.AC, (
        "some machines name their USB-C charger so, and their barrel plug AC"
    )


def test_only_usb(tmp_path):
    """On a machine with only a USB port, that port is the mains, at any voltage."""
    for online in (1, 2):
        supply(tmp_path, "CROS_USBPD_CHARGER0", type="USB", online=online)
        battery(tmp_path)
        assert read(tmp_path) == (Supply.AC, flows(9_320, 0))
    supply(tmp_path, "CROS_USBPD_CHARGER0", type="USB", online=0)
    assert read(tmp_path)[0] is Supply.BATTERY


@pytest.mark.parametrize("word", ["Full", "Not charging"])
def test_at_its_threshold(tmp_path, word):
    """A battery that rests at its charge threshold gives measured zeros, and a trickle counts as charging."""
    supply(tmp_path, "AC", type="Mains", online=1)
    battery(tmp_path, status=word, power_now=0, charge_control_end_threshold=80)
    assert read(tmp_path) == (Supply.AC, flows(0, 0))
    battery(tmp_path, status=word, power_now=120_000)
    assert read(tmp_path) == (Supply.AC, flows(0, 120))


def test_unknown_on_mains_and_off(tmp_path):
    """`Unknown` on mains has no direction, so the flow is absent; off mains it is a discharge."""
    supply(tmp_path, "AC", type="Mains", online=1)
    battery(tmp_path, status="Unknown")
    assert read(tmp_path) == (Supply.AC, {})
    supply(tmp_path, "AC", online=0)
    assert read(tmp_path) == (Supply.BATTERY, flows(9_320, 0))


def test_one_of_two_rests(tmp_path):
    """Of two batteries the discharging one counts, and the resting one gives a measured 0."""
    supply(tmp_path, "AC", type="Mains", online=0)
    battery(tmp_path)
    battery(tmp_path, "BAT1", status="Not charging", power_now=0)
    expected = {**flows(9_320, 0), **flows(0, 0, "BAT1")}
    assert read(tmp_path) == (Supply.BATTERY, expected)
    battery(tmp_path, "BAT1", status="Unknown", power_now=0)
    assert read(tmp_path) == (Supply.BATTERY, expected)


def test_a_machine_does_not_run_on_nothing(tmp_path):
    """Just after unplugging, some firmware gives 0 W: absent, not 0."""
    supply(tmp_path, "AC", type="Mains", online=0)
    battery(tmp_path, power_now=0)
    assert read(tmp_path) == (Supply.BATTERY, {})


@pytest.mark.parametrize(
    ("files", "milliwatts"),
    [
        ({"power_now": None, "current_now": 800_000}, 9_288),
        ({"power_now": None, "current_now": -800_000}, 9_288),
        ({"power_now": None, "current_now": 800_000, "voltage_now": None}, None),
        ({"power_now": None, "current_now": 800_000, "voltage_now": 0}, None),
        ({"power_now": None, "current_now": 800_000, "voltage_now": -11_610_000}, None),
        (
            {
                "power_now": None,
                "voltage_min_design": 11_100_000,
                "voltage_now": None,
                "current_now": 800_000,
            },
            None,
        ),
        ({"power_now": "garbage", "current_now": 800_000}, 9_288),
        ({"power_now": None, "energy_now": 38_000_000, "charge_now": 3_000_000}, None),
        ({"power_now": BATTERY_CEILING_MILLIWATTS * 1_000}, BATTERY_CEILING_MILLIWATTS),
        ({"power_now": BATTERY_CEILING_MILLIWATTS * 1_000 + 1_000}, None),
        ({"power_now": 4_294_967_295_000}, None),
        ({"power_now": None, "current_now": 4_294_967_295}, None),
    ],
)
def test_size(tmp_path, files, milliwatts):
    """Power is power_now, else current × present voltage; other and impossible values give none."""
    battery(tmp_path, **files)
    assert read(tmp_path)[1] == ({} if milliwatts is None else flows(milliwatts, 0))


@pytest.mark.parametrize("word", ["", "discharging", "garbage", "Discharging\x00"])
def test_a_word_that_is_none(tmp_path, word):
    """A status outside the kernel's five words gives no direction and no supply."""
    supply(tmp_path, "AC", type="Mains", online=0)
    battery(tmp_path, status=word)
    source = LinuxBattery(context(tmp_path))
    source.open()
    with pytest.raises(ReadFailed):
        source.read()


def test_pulled_out_and_put_back(tmp_path):
    """A removed battery is absent, not 0; the same points return with it."""
    supply(tmp_path, "AC", type="Mains", online=1)
    battery(tmp_path, status="Charging")
    source = LinuxBattery(context(tmp_path))
    points = source.open()
    battery(tmp_path, present=0)
    assert source.read() == (SupplyReading(Supply.AC),)
    shutil.rmtree(tmp_path / "sys/class/power_supply/BAT0")
    with pytest.raises(PointsChanged):
        source.read()
    assert source.open() == points
    assert source.read() == (SupplyReading(Supply.AC),)
    battery(tmp_path, status="Charging", present=1, power_now=20_000_000)
    with pytest.raises(PointsChanged):
        source.read()
    assert source.open() == points
    assert source.read()[1:] == (PowerGauge(points[0], 0), PowerGauge(points[1], 20_000))


def test_what_feeds_something_else(tmp_path):
    """Supplies of mice, headsets and their cradles (scope Device) do not count."""
    battery(tmp_path, "hidpp_battery_0", scope="Device")
    supply(tmp_path, "cradle", type="Wireless", online=1, scope="Device")
    with pytest.raises(SourceUnavailable):
        LinuxBattery(context(tmp_path)).open()
    supply(tmp_path, "AC", type="Mains", online=0)
    battery(tmp_path, scope="System")
    assert read(tmp_path) == (Supply.BATTERY, flows(9_320, 0))


def test_names_stay_in_the_alphabet(tmp_path):
    """Characters that the wire refuses are replaced."""
    battery(tmp_path, "axp20x-battery:0")
    assert [domain for domain, _ in read(tmp_path)[1]] == ["axp20x-battery_0"] * 2
