# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Simulate a machine: devices in a tree of kernel files, and the energy that each truly used. Only the
kernel's files are fake."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.support.fakes.measuring import FakeClock
from tests.support.trees import LONG_RANGE, SHORT_RANGE, put
from veilleuse.agent.model import EnergyCounter, Point, Reset, difference
from veilleuse.agent.sources.linux_hwmon import GPU_CEILING_WATTS
from veilleuse.agent.sources.linux_rapl import DRAM_CEILING_WATTS, PACKAGE_CEILING_WATTS, PSYS_CEILING_WATTS
from veilleuse.wire.vocabulary import Boundary, PointKind

RAPL, HWMON, BATTERY = "linux_rapl", "linux_hwmon", "linux_battery"


class Device:
    """One measuring point: its file, the text that it shows, and its true value."""

    def __init__(
        self,
        source: str,
        point: Point,
        file: str,
        watts: int,
        *,
        around: int | None = None,
        ceiling_watts: float = 0.0,
        start: int | None = None,
    ) -> None:
        """The device is a counter if `start` (microjoules) is given, else a gauge; `file` is below sys/."""
        self.source, self.point, self.file, self.watts = source, point, file, watts
        self.around, self.ceiling_watts = around, ceiling_watts
        self.microjoules = start
        self.text: str | None = None
        """Text shown instead of the true value; an empty text gives an empty file."""
        self.away = False
        """True: the file cannot be read."""

    @property
    def is_counter(self) -> bool:
        return self.microjoules is not None

    @property
    def is_true(self) -> bool:
        """True if the file can be read and shows the true value."""
        return self.text is None and not self.away

    def truth(self) -> str:
        """Return the text that an intact device shows now."""
        return str(self.watts * 1_000_000 if self.microjoules is None else self.microjoules)

    def spend(self, milliseconds: int) -> int:
        """Let time pass; return the microjoules used."""
        used = self.watts * milliseconds * 1_000
        if self.microjoules is not None:
            self.microjoules += used
            if self.around is not None:
                self.microjoules %= self.around
        return used

    def would_be_believed(self, value: int, elapsed_milliseconds: int) -> bool:
        """Return whether a counter at `value` looks like an advance that such a machine can make, so that no
        reader can detect the error."""
        assert self.microjoules is not None
        told = [
            EnergyCounter(self.point, number, self.around, self.ceiling_watts)
            for number in (self.microjoules, value)
        ]
        return not isinstance(difference(told[0], told[1], elapsed_milliseconds), Reset)


class Believed(NamedTuple):
    """A period of awake time with the energy that was truly used."""

    milliseconds: int
    used: dict[Point, int]
    """Microjoules used by each point."""


class Machine:
    """A machine with two packages, one memory, psys, a wall meter, two graphics cards and a battery."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.clock = FakeClock()
        component, machine_dc = Boundary.COMPONENT, Boundary.MACHINE_DC
        self.devices = (
            self._zone("0", Point(PointKind.RAPL, "package-0", component), 40, SHORT_RANGE, PACKAGE_CEILING_WATTS),
            self._zone("0:0", Point(PointKind.RAPL, "dram-0", component), 4, SHORT_RANGE, DRAM_CEILING_WATTS, "dram"),
            self._zone("1", Point(PointKind.RAPL, "package-1", component), 55, LONG_RANGE, PACKAGE_CEILING_WATTS),
            self._zone("2", Point(PointKind.RAPL, "psys", machine_dc), 130, LONG_RANGE, PSYS_CEILING_WATTS),
            self._chip(0, "power_meter", Point(PointKind.HWMON, "power_meter", Boundary.WALL), 160, "power1_average"),
            self._chip(1, "amdgpu", Point(PointKind.GPU, "amdgpu", component), 30, "power1_average"),
            self._chip(2, "xe", Point(PointKind.GPU, "xe", component), 25, "energy1_input", 7_000_000_000),
            Device(BATTERY, Point(PointKind.BATTERY_OUT, "BAT0", machine_dc), "class/power_supply/BAT0/power_now", 9),
            Device(BATTERY, Point(PointKind.BATTERY_IN, "BAT0", machine_dc), "class/power_supply/BAT0/power_now", 0),
        )  # fmt: skip
        put(tree, "class/power_supply/AC/type", "Mains")
        put(tree, "class/power_supply/BAT0/type", "Battery")
        self.by_point = {device.point: device for device in self.devices}
        self.drivers = {RAPL: "class/powercap", HWMON: "class/hwmon", BATTERY: "class/power_supply/BAT0"}
        self.unloaded: set[str] = set()
        self.plugged = False
        self.sign = 1
        self.by_current = False
        self.show()

    def _zone(
        self, number: str, point: Point, watts: int, around: int, ceiling: float, name: str = ""
    ) -> Device:
        folder = f"class/powercap/intel-rapl:{number}"
        put(self.tree, f"{folder}/name", name or point.domain)
        put(self.tree, f"{folder}/max_energy_range_uj", around)
        start = 1_000_000_000 * (len(number) + int(number[0]) * 20 + 3)
        return Device(
            RAPL, point, f"{folder}/energy_uj", watts, around=around, ceiling_watts=ceiling, start=start
        )

    def _chip(
        self, number: int, name: str, point: Point, watts: int, file: str, start: int | None = None
    ) -> Device:
        put(self.tree, f"class/hwmon/hwmon{number}/name", name)
        path = f"class/hwmon/hwmon{number}/{file}"
        return Device(HWMON, point, path, watts, ceiling_watts=GPU_CEILING_WATTS, start=start)

    # --------------------------------------------------------------------------------------- time

    def advance(self, milliseconds: int) -> Believed:
        """Let awake time pass, in which every device uses energy; return it."""
        self.clock.advance(milliseconds)
        return Believed(milliseconds, {device.point: device.spend(milliseconds) for device in self.devices})

    # ------------------------------------------------------------------------------------- devices

    def is_there(self, device: Device) -> bool:
        """Return whether the device's driver is loaded, or its battery inserted."""
        return device.source not in self.unloaded

    def is_told(self, device: Device) -> bool:
        """Return whether a read at this moment gives the true value."""
        return self.is_there(device) and device.is_true

    def unload(self, source: str) -> None:
        """Unload the driver, or remove the battery."""
        (self.tree / "sys" / self.drivers[source]).rename(self.tree / source)
        self.unloaded.add(source)

    def load(self, source: str) -> None:
        """Load the driver again, or insert the battery."""
        (self.tree / source).rename(self.tree / "sys" / self.drivers[source])
        self.unloaded.discard(source)

    def renumber(self) -> None:
        """Exchange the folders of the second package and psys, as a driver may when it is loaded again."""
        one, other = (self.tree / "sys/class/powercap" / f"intel-rapl:{number}" for number in "12")
        aside = self.tree / "aside"
        one.rename(aside)
        other.rename(one)
        aside.rename(other)
        for device in self.devices:
            for number in "12":
                if device.file == f"class/powercap/intel-rapl:{number}/energy_uj":
                    device.file = f"class/powercap/intel-rapl:{3 - int(number)}/energy_uj"
                    break

    def plug(self, *, into: bool) -> None:
        """Connect or disconnect the mains: the battery charges, or powers the machine."""
        self.plugged = into
        self.by_point[self._battery(PointKind.BATTERY_OUT)].watts = 0 if into else 9
        self.by_point[self._battery(PointKind.BATTERY_IN)].watts = 22 if into else 0

    def _battery(self, kind: PointKind) -> Point:
        return Point(kind, "BAT0", Boundary.MACHINE_DC)

    def show(self) -> None:
        """Write every file with its present value."""
        for device in self.devices:
            if device.source != BATTERY and self.is_there(device):
                self._show(device)
        put(self.tree, "class/power_supply/AC/online", int(self.plugged))
        if BATTERY not in self.unloaded:
            self._show_battery()

    def _show(self, device: Device) -> None:
        path = self.tree / "sys" / device.file
        if device.away:
            path.unlink(missing_ok=True)
        else:
            path.write_text(device.truth() + "\n" if device.text is None else device.text)

    def _show_battery(self) -> None:
        out, into = self.devices[-2:]
        flow = (out.watts or into.watts) * 1_000_000
        folder = self.tree / "sys/class/power_supply/BAT0"
        for file in ("power_now", "current_now", "voltage_now"):
            (folder / file).unlink(missing_ok=True)
        (folder / "status").write_text("Charging\n" if self.plugged else "Discharging\n")
        if out.away:
            return
        if out.text is not None:
            (folder / "power_now").write_text(out.text)
        elif self.by_current:  # at 12.5 V every whole watt is a whole number of µA
            (folder / "voltage_now").write_text("12500000\n")
            (folder / "current_now").write_text(f"{self.sign * flow * 2 // 25}\n")
        else:
            (folder / "power_now").write_text(f"{self.sign * flow}\n")
