# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test Windows' energy meters over a fake table of calls: channels that count, exact energy, failures."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes.measuring import FakeClock, ticker_over
from tests.support.fakes.windows import CONTEXT, PICOWATT_HOURS_PER_JOULE, FakeWindows, Meter, opened
from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter
from veilleuse.agent.platforms.windows.calls import (
    ERROR_ACCESS_DENIED,
    ERROR_GEN_FAILURE,
    ERROR_NOT_SUPPORTED,
)
from veilleuse.agent.sources.windows_emi import (
    COUNTER,
    GET_MEASUREMENT,
    GET_METADATA,
    GET_METADATA_SIZE,
    WindowsEmi,
)
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.units import microjoules_from_picowatt_hours
from veilleuse.wire.vocabulary import Boundary, PointKind


def joules(source: WindowsEmi) -> dict[str, float]:
    """Return domain → joules of one read."""
    return {one.point.domain: one.energy_microjoules / 1e6 for one in counters(source)}


def counters(source: WindowsEmi) -> list[EnergyCounter]:
    """Return the counters of one read, and check that each is ≥ 0 and has its own point."""
    found = [reading for reading in source.read() if isinstance(reading, EnergyCounter)]
    assert len({one.point for one in found}) == len(found)
    assert all(one.energy_microjoules >= 0 and one.range_microjoules is None for one in found)
    return found


def refused(windows: FakeWindows, virtualisation: str = "none") -> SourceUnavailable:
    """Return why the source is unavailable, and check that each handle is closed."""
    with pytest.raises(SourceUnavailable) as caught:
        WindowsEmi(CONTEXT._replace(virtualisation=virtualisation), windows, pause=lambda _: None).open()
    assert not windows.handles
    assert not windows.queries
    return caught.value


# ------------------------------------------------------------------------------------- what counts


@pytest.mark.parametrize(
    ("machine", "domains"),
    [
        ("intel_laptop", {"dram-0": Boundary.COMPONENT, "package-0": Boundary.COMPONENT}),
        (
            "intel_platform",
            {
                "dram-0": Boundary.COMPONENT,
                "dram-1": Boundary.COMPONENT,
                "package-0": Boundary.COMPONENT,
                "package-1": Boundary.COMPONENT,
                "psys": Boundary.MACHINE_DC,
            },
        ),
        ("amd_sixteen_cores", {"package-0": Boundary.COMPONENT}),
        ("amd_management_unit", {"package-0": Boundary.COMPONENT}),
        ("amd_management_unit_energy", {"package-0": Boundary.COMPONENT}),
        ("first_version", {"package-0": Boundary.COMPONENT}),
        (
            "snapdragon",
            {
                "CPU_CLUSTER_0": Boundary.COMPONENT,
                "CPU_CLUSTER_1": Boundary.COMPONENT,
                "CPU_CLUSTER_2": Boundary.COMPONENT,
                "PSU_USB": Boundary.MACHINE_DC,
                "psys": Boundary.MACHINE_DC,
            },
        ),
    ],
)
def test_packages_memory_and_the_machine_or_clusters(machine, domains):
    """Packages and memory count, cores and graphics never; without a package its clusters do. The machine's
    own counter is a point of its own. Domains are those of RAPL on Linux.
    """
    windows = FakeWindows.of(machine)
    for number, meter in enumerate(windows.meters.values()):
        meter.spend(10_000 * number)
    with opened(windows) as source:
        read = counters(source)
    assert {one.point.domain: one.point.boundary for one in read} == domains
    assert all(one.point.kind is PointKind.EMI and FACT_PATTERN.fullmatch(one.point.domain) for one in read)


def test_sixteen_devices_do_not_make_the_package_heavier():
    """A package of 154 W and fifteen cores of 7.3 W are 154 W, not 265 (codecarbon 1263)."""
    windows = FakeWindows.of("amd_sixteen_cores")
    with opened(windows) as source:
        before = joules(source)
        for meter in windows.meters.values():
            meter.spend(154 if "RAPL_Package0_PKG" in meter.names else 7.3)
        windows.reads = 0
        after = joules(source)
        assert windows.reads == 1, "the cores' devices are read for nothing"
    assert sum(after.values()) - sum(before.values()) == pytest.approx(154, abs=1e-5)


def test_what_is_not_counted_has_a_reason():
    """Cores and graphics are inside, an unknown rail is unknown, one counter of the platform is enough."""
    windows = FakeWindows()
    names = (
        "RAPL_Package0_PKG",
        "RAPL_Package0_PP0",
        "RAPL_Package0_PP1",
        "RAPL_Package0_PSYS",
        "SYS",
        "WIFI",
    )
    windows.meters["meter"] = Meter(*names)
    with opened(windows) as source:
        assert sorted(joules(source)) == ["package-0", "psys"]
        assert [name for name, why in source.not_counted() if why == "inside the package"] == [
            "RAPL_PACKAGE0_PP0",
            "RAPL_PACKAGE0_PP1",
        ]
        assert [name for name, _ in source.not_counted()][2:] == ["SYS", "WIFI"]
        assert FACT_PATTERN.fullmatch("".join(name for name, _ in source.not_counted()))


def test_two_dies_do_not_double_their_memory():
    """Memory that two dies show with one counter counts once, as the package does."""
    windows = FakeWindows()
    for die in range(2):
        windows.meters[f"die {die}"] = Meter("RAPL_Package0_PKG", "RAPL_Package0_DRAM")
    with opened(windows) as source:
        assert sorted(joules(source)) == ["dram-0", "package-0"]


def test_a_platform_counter_that_is_not_filled_is_no_point():
    """Most makers do not connect psys: it stays at 0, and so does the memory of most client machines."""
    windows = FakeWindows.of("intel_platform")
    for meter in windows.meters.values():
        meter.picowatt_hours = [
            0 if name.endswith(("DRAM", "PSYS")) else value
            for name, value in zip(meter.names, meter.picowatt_hours, strict=True)
        ]
    with opened(windows) as source:
        assert list(joules(source)) == ["package-0"]


def test_one_counter_shown_once_per_die_counts_once():
    """Two devices with one name and equal values are one package."""
    with opened(FakeWindows.of("two_dies")) as source:
        assert list(joules(source)) == ["package-0"]
        assert source.not_counted() == (("RAPL_PACKAGE0_PKG", "mirror of package-0"),)


def test_two_sockets_that_differ_are_two_points():
    """Two devices with one name and different values are two points, whose names start with package."""
    windows = FakeWindows.of("two_dies")
    next(iter(windows.meters.values())).spend(10_000)
    with opened(windows) as source:
        assert sorted(joules(source)) == ["package-0", "package-0-2"]


def test_two_sockets_that_drift_apart_while_they_are_looked_at():
    """Devices with equal values at first are two points if one advances meanwhile."""
    windows = FakeWindows.of("two_dies")
    first = next(iter(windows.meters.values()))
    source = WindowsEmi(CONTEXT, windows, pause=lambda _: first.spend(2))
    assert len(source.open()) == 2
    source.close()


# ------------------------------------------------------------------------------------ exact joules


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=20), st.integers(0, 2**63))
def test_picowatt_hours_are_converted_without_drift(steps, start):
    """1 pWh is 3.6 nJ: the sum over any reads is less than 1 µJ off."""
    total, previous, value = 0, microjoules_from_picowatt_hours(start), start
    for step in steps:
        value += step
        energy = microjoules_from_picowatt_hours(value)
        assert energy >= previous
        total, previous = total + energy - previous, energy
    assert abs(total * 2_500 - (value - start) * 9) < 2_500


def test_the_largest_value_fits():
    """2^64 - 1 pWh is 66 GJ, below 2^63 µJ."""
    assert microjoules_from_picowatt_hours(2**64 - 1) < 2**63


# ----------------------------------------------------------------------------- not on this machine


def test_nothing_there():
    """Without device and counter the source gives no_device with the reasons of both."""
    why = refused(FakeWindows())
    assert why.word == "no_device"
    assert "no energy meter device" in why.reason
    assert "performance counter" in why.reason
    assert why.remedy


@pytest.mark.skipif(sys.platform == "win32", reason="this is Windows")
def test_not_windows():
    """The source is unavailable on any other system, without a call."""
    with pytest.raises(SourceUnavailable) as caught:
        WindowsEmi(CONTEXT).open()
    assert (caught.value.word, caught.value.reason) == ("no_device", "this is not Windows")


def test_virtual_machine():
    """A hypervisor's meters are not this machine's."""
    assert refused(FakeWindows.of("intel_laptop"), "hyperv").word == "virtual_machine"


def test_access_denied():
    """A device that this user may not read gives no_permission."""
    windows = FakeWindows.of("intel_laptop")
    windows.denied = set(windows.meters)
    assert refused(windows).word == "no_permission"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda meter: setattr(meter, "version", 3),
        lambda meter: setattr(meter, "version", 0),
        lambda meter: setattr(meter, "refuses", ERROR_NOT_SUPPORTED),  # the answer of an i7-13700KF
        lambda meter: setattr(meter, "unit", 1),
        lambda meter: (meter.names.clear(), meter.picowatt_hours.clear()),
        lambda meter: setattr(meter, "names", ["WIFI", "_Total"]),
        *(
            lambda meter, cut=cut: meter.cut.update({GET_METADATA: cut})
            for cut in (0, 1, 67, 68, 73, 74, 100, 107)
        ),
        lambda meter: meter.cut.update({GET_METADATA_SIZE: 3}),
    ],
)
def test_a_device_that_is_not_understood_is_not_there(break_it):
    """Another version, unit or length, and missing or unknown channels give no_device."""
    windows = FakeWindows.of("intel_laptop")
    for meter in windows.meters.values():
        break_it(meter)
    assert refused(windows).word == "no_device"


def test_one_broken_device_does_not_hide_the_others():
    """A broken device of a core does not prevent reading the package's."""
    windows = FakeWindows.of("amd_sixteen_cores")
    list(windows.meters.values())[3].version = 9
    with opened(windows) as source:
        assert list(joules(source)) == ["package-0"]


# ------------------------------------------------------------------------- performance counters


def test_performance_counters_where_devices_cannot_be_opened():
    """Performance counters have English names; instances give the devices' points, without `_Total`."""
    windows = FakeWindows.of("intel_laptop")
    windows.denied = set(windows.meters)
    windows.counters_fail = 0
    windows.counters = {"_Total": 0, "rapl_package0_pkg": 10**12, "rapl_package0_dram": 0}
    with opened(windows) as source:
        assert joules(source) == {"package-0": 3_600}
        assert source.not_counted() == (("RAPL_PACKAGE0_DRAM", "it reads 0"),)
        assert windows.opened_counter == COUNTER == r"\Energy Meter(*)\Energy"
        windows.counters["rapl_package0_pkg"] += round(20 * PICOWATT_HOURS_PER_JOULE)
        assert joules(source)["package-0"] == pytest.approx(3_620, abs=1e-5)
        windows.counters_fail = 0xC0000BC6
        with pytest.raises(ReadFailed):
            source.read()
        windows.counters_fail = 0
        del windows.counters["rapl_package0_pkg"]
        with pytest.raises(ReadFailed):
            source.read()


def test_a_counter_that_opens_without_an_instance_is_not_there():
    """Every Windows 11 has the counter set, but only some machines have meters in it."""
    windows = FakeWindows()
    windows.counters_fail = 0
    windows.counters = {"_Total": 0}
    assert "no instance" in refused(windows).reason


# ------------------------------------------------------------------------------ devices that fail


def test_a_value_counts_once():
    """A repeated measurement is dropped, and so is a package's unchanged counter."""
    windows = FakeWindows.of("intel_laptop")
    (meter,) = windows.meters.values()
    with opened(windows) as source:
        counters(source)
        with pytest.raises(ReadFailed):
            source.read()
        meter.time_100ns += 1
        with pytest.raises(ReadFailed):
            source.read()
        meter.spend(1)
        assert len(counters(source)) == 2
        meter.spend(1, "RAPL_Package0_PKG")
        assert list(joules(source)) == ["package-0"], "memory that stands still was not read"


def test_a_cluster_may_rest():
    """Unchanged counters of a cluster or a plug are read; the machine's is not."""
    windows = FakeWindows.of("snapdragon")
    (meter,) = windows.meters.values()
    with opened(windows) as source:
        counters(source)
        meter.spend(5, "CPU_CLUSTER_0")
        assert {one.point.domain for one in counters(source)} == {
            "CPU_CLUSTER_0",
            "CPU_CLUSTER_1",
            "CPU_CLUSTER_2",
            "PSU_USB",
        }


def test_removed_and_back():
    """A removed device raises ReadFailed; after its return it is read with a new handle."""
    windows = FakeWindows.of("intel_laptop")
    kept = dict(windows.meters)
    with opened(windows) as source:
        counters(source)
        windows.meters.clear()
        for _ in range(3):
            with pytest.raises(ReadFailed, match="no energy meter answers"):
                source.read()
        windows.meters.update(kept)
        kept[next(iter(kept))].spend(3)
        assert len(counters(source)) == 2


@pytest.mark.parametrize("cut", [0, 1, 15, 16, 63])
def test_a_short_measurement_is_a_gap(cut):
    """A measurement with fewer bytes than its channels need raises ReadFailed."""
    windows = FakeWindows.of("intel_laptop")
    with opened(windows) as source:
        next(iter(windows.meters.values())).cut[GET_MEASUREMENT] = cut
        with pytest.raises(ReadFailed):
            source.read()


def test_other_channels_under_the_same_path():
    """If a driver update changes the channels of a path, the device is opened anew."""
    windows = FakeWindows.of("intel_laptop")
    (path,) = windows.meters
    with opened(windows) as source:
        windows.meters[path].refuses = ERROR_GEN_FAILURE
        with pytest.raises(ReadFailed):
            source.read()
        windows.meters[path] = Meter("RAPL_Package0_PP0", "RAPL_Package0_PKG")
        with pytest.raises(PointsChanged):
            source.read()
        assert [point.domain for point in source.open()] == ["package-0"]
        assert len(counters(source)) == 1


def test_other_devices_altogether():
    """Devices at new paths raise PointsChanged until they can be opened."""
    windows = FakeWindows.of("intel_laptop")
    with opened(windows) as source:
        windows.meters.clear()
        with pytest.raises(ReadFailed):
            source.read()
        windows.meters["other"] = Meter("RAPL_Package0_PKG")
        with pytest.raises(PointsChanged):
            source.read()
        windows.denied.add("other")
        with pytest.raises(SourceUnavailable):
            source.open()
        with pytest.raises(PointsChanged):
            source.read()
        windows.denied.clear()
        source.open()
        assert len(counters(source)) == 1


# ------------------------------------------------------------------------------ no invented energy

ACTIONS = st.one_of(
    st.tuples(st.just("spend"), st.floats(0, 900)),
    st.tuples(st.sampled_from(["back", "jump", "zero"]), st.floats(1, 1e6)),
    st.tuples(st.sampled_from(["remove", "return", "refuse", "freeze", "cut", "sleep"]), st.just(0.0)),
)


class Bench:
    """Runs a ticker over a laptop's meter that may give false values; each channel spends the same."""

    def __init__(self) -> None:
        self.windows = FakeWindows.of("intel_laptop")
        ((self.path, self.meter),) = self.windows.meters.items()
        self.clock = FakeClock()
        source = WindowsEmi(CONTEXT, self.windows, pause=lambda _: None)
        self.ticker = ticker_over(self.clock, source)
        self.spent, self.lied = 0.0, False
        self.told = {"package-0": 0, "dram-0": 0}
        """Domain → millijoules."""

    def act(self, action: str, amount: float) -> None:
        """Change the device for the next tick of 10 s."""
        meter = self.meter
        if action == "spend":
            meter.spend(amount * 10)
            self.spent += amount * 10
        elif action in ("back", "jump", "zero"):
            step = {"back": -1, "jump": 1, "zero": -(10**9)}[action] * round(
                amount * PICOWATT_HOURS_PER_JOULE
            )
            meter.picowatt_hours = [max(0, value + step) for value in meter.picowatt_hours]
            self.lied = True
        elif action == "remove":
            self.windows.meters.pop(self.path, None)
        elif action == "return":
            self.windows.meters[self.path] = meter
            meter.refuses, meter.cut = 0, {}
        elif action == "refuse":
            meter.refuses = ERROR_ACCESS_DENIED
        elif action == "cut":
            meter.cut = {GET_MEASUREMENT: 7}
        meter.time_100ns += action != "freeze"

    def tick(self, *, last: bool = False) -> None:
        """Poll, and check that energy is between 0 and the ceiling."""
        for tick in self.ticker.tick(last=last)[1]:
            for energy in tick.energies:
                assert 0 <= energy.energy_millijoules <= 1_000 * tick.duration_milliseconds + 1
                self.told[energy.point.domain] += energy.energy_millijoules


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, min_size=1, max_size=25))
def test_whatever_the_device_does_no_joule_is_invented(actions):
    """For any behaviour, energy is between 0 and the ceiling; without false values at most the true one."""
    bench = Bench()
    bench.tick()
    for action, amount in actions:
        bench.act(action, amount)
        bench.clock.advance(10_000, asleep=action == "sleep")
        bench.tick()
    bench.tick(last=True)
    if not bench.lied:
        assert max(bench.told.values()) <= bench.spent * 1_000 + 1


def test_the_bench_tells_what_was_spent():
    """A working device loses no energy, even if it is removed for two ticks."""
    bench = Bench()
    bench.tick()
    for action in ("spend", "spend", "remove", "spend", "return", "spend"):
        bench.act(action, 30.0)
        bench.clock.advance(10_000)
        bench.tick()
    bench.tick(last=True)
    assert bench.told == pytest.approx({"package-0": 4 * 300_000, "dram-0": 4 * 300_000}, abs=1)
