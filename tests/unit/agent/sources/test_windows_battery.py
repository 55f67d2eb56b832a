# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test batteries over a fake table of Windows calls: power, direction, supply, changes, false values."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.windows import CONTEXT, Battery, FakeWindows
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import PowerGauge, SupplyReading
from veilleuse.agent.platforms.windows.calls import ERROR_GEN_FAILURE
from veilleuse.agent.sources.windows_battery import WindowsBattery
from veilleuse.wire.vocabulary import PointKind, Supply

ON_LINE, DISCHARGING, CHARGING = 1, 2, 4
UNKNOWN_RATE = -0x80000000


def laptop(battery: Battery, line: int) -> tuple[FakeWindows, WindowsBattery]:
    """Return a fake laptop with one battery, and its opened source."""
    windows = FakeWindows()
    windows.batteries["b0"] = battery
    windows.on_mains(line)
    source = WindowsBattery(CONTEXT, windows)
    assert [point.kind for point in source.open()] == [PointKind.BATTERY_OUT, PointKind.BATTERY_IN]
    return windows, source


def flows(source: WindowsBattery) -> tuple[Supply, dict[str, int]]:
    """Return (supply, kind → mW) of one read."""
    supply, found = Supply.UNKNOWN, {}
    for reading in source.read():
        if isinstance(reading, SupplyReading):
            supply = reading.supply
        elif isinstance(reading, PowerGauge):
            assert reading.point not in found
            found[str(reading.point.kind)] = reading.power_milliwatts
    return supply, found


@pytest.mark.parametrize(
    ("flags", "rate", "line", "out", "into"),
    [
        (DISCHARGING, -12_000, 0, 12_000, 0),
        (DISCHARGING, 12_000, 0, 12_000, 0),  # drivers differ in sign
        (ON_LINE | CHARGING, 30_000, 1, 0, 30_000),
        (ON_LINE, 0, 1, 0, 0),
        (ON_LINE | DISCHARGING, -5_000, 1, 5_000, 0),  # a weak charger
        (0, -3_000, 0, 3_000, 0),  # without mains the flow is a discharge
    ],
)
def test_size_and_direction(flags, rate, line, out, into):
    """Power is the absolute rate, and the flags give its direction."""
    _, source = laptop(Battery(flags=flags, rate=rate), line)
    assert flows(source) == (
        Supply.AC if line else Supply.BATTERY,
        {"battery_out": out, "battery_in": into},
    )


@pytest.mark.parametrize(
    ("flags", "rate", "line"),
    [
        (DISCHARGING, UNKNOWN_RATE, 0),
        (ON_LINE | CHARGING, UNKNOWN_RATE, 1),
        (DISCHARGING, 0, 0),  # the machine draws power
        (0, 0, 0),  # also just after unplugging
        (DISCHARGING, -500_001, 0),
        (DISCHARGING | CHARGING, -1_000, 0),
        (ON_LINE, -2_000, 1),  # a flow without a direction
        (0, -2_000, 255),
    ],
)
def test_what_is_not_told_is_absent(flags, rate, line):
    """Such values give no power, never 0; the supply is given if it is known."""
    _, source = laptop(Battery(flags=flags, rate=rate), line)
    if line == 255:
        with pytest.raises(ReadFailed):
            source.read()
    else:
        assert flows(source)[1] == {}


def test_one_of_two_rests():
    """The discharging battery supplies the machine, and the resting one gives a measured 0."""
    windows = FakeWindows()
    windows.batteries |= {"b0": Battery(flags=DISCHARGING, rate=-9_000), "b1": Battery(flags=0, rate=0)}
    windows.on_mains(0)
    source = WindowsBattery(CONTEXT, windows)
    source.open()
    gauges = [one for one in source.read() if isinstance(one, PowerGauge)]
    assert [(one.point.domain, one.power_milliwatts) for one in gauges] == [
        ("battery-0", 9_000),
        ("battery-0", 0),
        ("battery-1", 0),
        ("battery-1", 0),
    ]


def test_a_battery_that_is_pulled_and_changed():
    """An empty slot gives no power; a new battery with another tag has the same point."""
    windows, source = laptop(Battery(flags=DISCHARGING, rate=-9_000), 0)
    assert flows(source)[1]["battery_out"] == 9_000
    windows.batteries["b0"].tag = 0
    assert flows(source)[1] == {}
    windows.batteries["b0"].tag = 8
    flows(source)
    assert flows(source)[1]["battery_out"] == 9_000


def test_a_device_that_refuses_and_comes_back():
    """A failed control code costs one reading; the handle is reopened and finally closed."""
    windows, source = laptop(Battery(flags=DISCHARGING, rate=-9_000), 0)
    windows.batteries["b0"].refuses = ERROR_GEN_FAILURE
    assert flows(source)[1] == {}
    windows.batteries["b0"].refuses = 0
    assert flows(source)[1]["battery_out"] == 9_000
    source.close()
    source.close()
    assert not windows.handles


@pytest.mark.parametrize(
    ("battery", "why"),
    [
        (Battery(capabilities=0x80000000 | 0x20000000), "a UPS"),
        (Battery(capabilities=0x80000000 | 0x40000000), "units of its own"),
        (Battery(capabilities=0), "a mouse's"),
        (None, "none at all"),
    ],
)
def test_no_battery_of_the_machine(battery, why):
    """Another device's battery, and none, give no_device."""
    windows = FakeWindows()
    if battery is not None:
        windows.batteries["b0"] = battery
    with pytest.raises(SourceUnavailable) as caught:
        WindowsBattery(CONTEXT, windows).open()
    assert caught.value.word == "no_device", why
    assert not windows.handles


def test_an_empty_slot_at_the_start_is_none():
    """A battery absent at the start has no point."""
    windows = FakeWindows()
    windows.batteries = {"b0": Battery(), "b1": Battery(flags=DISCHARGING, rate=-4_000)}
    windows.batteries["b0"].tag = 0
    windows.on_mains(0)
    source = WindowsBattery(CONTEXT, windows)
    assert {point.domain for point in source.open()} == {"battery-0"}
    assert flows(source)[1]["battery_out"] == 4_000


@pytest.mark.parametrize("virtualisation", ["hyperv", "kvm"])
def test_a_virtual_machine_shows_its_hosts_battery(virtualisation):
    """The host's battery is not counted in its guest."""
    windows = FakeWindows()
    windows.batteries["b0"] = Battery()
    with pytest.raises(SourceUnavailable) as caught:
        WindowsBattery(CONTEXT._replace(virtualisation=virtualisation), windows).open()
    assert caught.value.word == "virtual_machine"


@pytest.mark.skipif(sys.platform == "win32", reason="this is Windows")
def test_not_windows():
    """The source is unavailable on any other system."""
    with pytest.raises(SourceUnavailable, match="not Windows"):
        WindowsBattery(CONTEXT).open()


@given(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1), st.sampled_from([0, 1, 255]))
def test_no_flow_is_invented(flags, rate, line):
    """For any flags and rates, power is the rate or 0, up to 500 W, and in one direction."""
    _, source = laptop(Battery(flags=flags, rate=rate), line)
    try:
        _, found = flows(source)
    except ReadFailed:
        return
    assert all(0 <= power <= 500_000 for power in found.values())
    assert min(found.values(), default=0) == 0
    assert sum(found.values()) in (0, abs(rate))
