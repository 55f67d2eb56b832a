# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads a server's power from its management controller over IPMI, with the command DCMI Get Power Reading.

Source: DCMI specification 1.5, 6.6.1; output of ipmitool 1.8 (lib/ipmi_dcmi.c) and FreeIPMI 1.6 (ipmi-dcmi).
Asks this machine's controller through the kernel's /dev/ipmiN, or another one by IPMI 2.0 over the network
(ipmitool, lanplus). Reads the instantaneous value: the maker chooses the duration of the average, from a
second to days.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import ClassVar, Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, PowerGauge, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.files import entries
from veilleuse.agent.sources.http_json import endpoint_of
from veilleuse.agent.sources.meters_file import read_credentials
from veilleuse.agent.sources.readings import RateLimiter, point_of
from veilleuse.agent.sources.run_program import Program, ProgramResult
from veilleuse.wire.units import MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import Boundary, PointKind

CEILING_WATTS: Final = 20_000.0
"""Ceiling for this machine's own controller, a rounded choice above the largest known server.

That server has eight accelerators and 14.3 kW: NVIDIA, DGX B200 User Guide, Power Specifications, 2025.
"""
TIMEOUT_SECONDS: Final = 10.0
"""Timeout for this machine's own controller; a controller answers in 0.1 to 3 s."""
LAN_PORT: Final = 623
_PRIVILEGES: Final = ("USER", "OPERATOR", "ADMINISTRATOR")
_DEVICE = re.compile(r"ipmi(\d+)")
_IPMITOOL_POWER = re.compile(r"^ *Instantaneous power reading *: *(\d{1,5}) *Watts *$", re.MULTILINE)
_IPMITOOL_STATE = re.compile(r"^ *Power reading state is *: *(activated|deactivated) *$", re.MULTILINE)
_FREEIPMI_POWER = re.compile(r"^Current Power *: *(\d{1,5}) *[Ww]atts *$", re.MULTILINE)
_FREEIPMI_STATE = re.compile(r"^Power Measurement *: *(Active|Not Available) *$", re.MULTILINE)
_SAYS_NO_DCMI = re.compile(
    r"Invalid command \(c1\)|Invalid data field in request \(cc\)|valid DCMI command was not returned"
    r"|command invalid or unsupported",
    re.IGNORECASE,
)
_REMEDY_TOOL: Final = "install the Debian package ipmitool, or freeipmi-tools"
_REMEDY_PERMISSION: Final = (
    "give the group of the agent read and write access to /dev/ipmi0: "
    'a udev rule KERNEL=="ipmi*", GROUP="veilleuse", MODE="0660"'
)


class _NoDcmi(ReadFailed):
    pass


class _Command(NamedTuple):
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    seconds: float


class IpmiDcmi:
    """`ports.Source`: one point, this machine or the meter's."""

    name = "ipmi_dcmi"
    EVERY_SECONDS: ClassVar[int] = 30
    OPTIONS: ClassVar[Mapping[str, type]] = {"privilege": str, "cipher_suite": int}
    """Options over the network.

    `privilege` is USER (default, enough by the specification), OPERATOR or ADMINISTRATOR. `cipher_suite` is 3
    or 17; by default the controller proposes one.
    """
    PAUSE_SECONDS: ClassVar[float] = 30.0
    """Shortest time between two requests, whatever the interval: docs/sources.md, ipmi_dcmi."""
    TOOL_FOLDERS: ClassVar[tuple[str, ...]] = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
    """Folders of the tool, without /usr/local and PATH: the tool runs with the rights of the agent."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._program = Program()
        self._command: _Command | None = None
        self._point = Point(PointKind.BMC, "bmc", Boundary.WALL)
        self._ceiling_watts = CEILING_WATTS
        self._limiter = RateLimiter(self._ask)

    def open(self) -> tuple[Point, ...]:
        """Look for a device and a tool, and ask once.

        Raises SourceUnavailable, or ReadFailed when there is no answer now.
        """
        meter = self._context.meter
        if meter is not None:
            self._point, self._ceiling_watts = point_of(PointKind.BMC, meter), meter.ceiling_watts
        seconds = TIMEOUT_SECONDS if meter is None else meter.timeout_seconds
        if meter is not None and meter.address:
            self._command = self._network_command(meter)
        else:
            self._command = self._local_command(seconds)
        try:
            self._limiter.read(self.PAUSE_SECONDS)
        except _NoDcmi as error:
            raise SourceUnavailable("no_device", str(error), "try redfish, or a meter at the plug") from error
        return (self._point,)

    def read(self) -> tuple[Reading, ...]:
        """Return the power, renewed at most every 30 s. Raises ReadFailed."""
        return self._limiter.read(self.PAUSE_SECONDS)

    def close(self) -> None:
        """Make the next read ask again; nothing stays open."""
        self._limiter.forget()

    def _ask(self) -> tuple[Reading, ...]:
        if self._command is None:
            raise ReadFailed("not open")
        try:
            finished = self._program.run(*self._command)
        except ReadFailed as error:
            raise self._add_address(error) from error
        if _SAYS_NO_DCMI.search(finished.output + finished.errors):
            raise _NoDcmi("the management controller does not report its power over DCMI")
        watts = power_watts(os.path.basename(self._command.arguments[0]), finished)
        if watts == 0:
            raise ReadFailed("the controller reports 0 W, which is impossible: it draws power itself")
        if watts > self._ceiling_watts:
            raise ReadFailed(
                f"the controller reports {watts} W, above the ceiling of {self._ceiling_watts:g} W"
            )
        return (PowerGauge(self._point, watts * MILLIWATTS_PER_WATT),)

    def _add_address(self, error: ReadFailed) -> ReadFailed:
        """Add the address and what to check: over the network ipmitool tries without a message until its time
        is up.
        """
        meter = self._context.meter
        if meter is None or not meter.address:
            return error
        missing = "" if meter.credentials_file else ", does it want a credentials_file?"
        return ReadFailed(
            f"{meter.address}: {error}; is the controller up, is IPMI over LAN switched on there,"
            f" is UDP open{missing or '?'}"
        )

    def _local_command(self, seconds: float) -> _Command:
        numbers = [
            int(match[1]) for name in entries(self._context.devfs) if (match := _DEVICE.fullmatch(name))
        ]
        if not numbers:
            raise self._nothing_here()
        device = f"{self._context.devfs}/ipmi{min(numbers)}"
        ipmitool, freeipmi = self._tool("ipmitool"), self._tool("ipmi-dcmi")
        if ipmitool is None and freeipmi is None:
            raise SourceUnavailable(
                "missing_library", f"{device} is there, and no tool to ask it", _REMEDY_TOOL
            )
        if not os.access(device, os.R_OK | os.W_OK):
            raise SourceUnavailable("no_permission", f"this user may not open {device}", _REMEDY_PERMISSION)
        if ipmitool is not None:
            open_driver = ("-I", "open", "-d", str(min(numbers)))
            return _Command((ipmitool, *open_driver, "dcmi", "power", "reading"), {}, seconds)
        # Without a named driver FreeIPMI probes the ports of the board.
        named_driver = ("--driver-type=OPENIPMI", f"--driver-device={device}")
        return _Command((str(freeipmi), *named_driver, "--get-system-power-statistics"), {}, seconds)

    def _network_command(self, meter: MeterSpec) -> _Command:
        endpoint = endpoint_of(meter, LAN_PORT)
        privilege = str(meter.options.get("privilege", "USER")).upper()
        if privilege not in _PRIVILEGES:
            raise SourceUnavailable(
                "no_device",
                f"{meter.meter}: there is no privilege {privilege}",
                "set privilege to USER, OPERATOR or ADMINISTRATOR",
            )
        ipmitool = self._tool("ipmitool")
        if ipmitool is None:
            raise SourceUnavailable(
                "missing_library", f"{meter.meter} needs ipmitool", "install the Debian package ipmitool"
            )
        name, secret = read_credentials(meter.credentials_file) if meter.credentials_file else ("", "")
        arguments = [
            ipmitool,
            "-I",
            "lanplus",
            "-H",
            endpoint.host,
            "-p",
            str(endpoint.port),
            "-L",
            privilege,
        ]
        arguments += ["-U", name, "-E"]  # other users cannot read the secret in the environment
        if (suite := meter.options.get("cipher_suite")) is not None:
            arguments += ["-C", str(int(suite))]
        return _Command(
            (*arguments, "dcmi", "power", "reading"), {"IPMI_PASSWORD": secret}, meter.timeout_seconds
        )

    def _tool(self, name: str) -> str | None:
        paths = (f"{folder}/{name}" for folder in self.TOOL_FOLDERS)
        return next((path for path in paths if os.access(path, os.X_OK)), None)

    def _nothing_here(self) -> SourceUnavailable:
        if self._context.virtualisation not in ("none", "container"):
            return SourceUnavailable(
                "virtual_machine", "virtual machine: the controller is its host's", "measure the host"
            )
        return SourceUnavailable(
            "no_device",
            f"no {self._context.devfs}/ipmi*: no management controller, or its driver is not loaded",
            "on a Linux server load the modules ipmi_si and ipmi_devintf",
        )


def power_watts(tool: str, finished: ProgramResult) -> int:
    """Return whole watts from the tool's output.

    Raises ReadFailed unless there is exactly one value, marked as measured.
    """
    if tool == "ipmitool":
        values, states = _IPMITOOL_POWER.findall(finished.output), _IPMITOOL_STATE.findall(finished.output)
    else:
        values, states = _FREEIPMI_POWER.findall(finished.output), _FREEIPMI_STATE.findall(finished.output)
    if len(values) != 1 or len(states) != 1:
        raise ReadFailed(f"{tool}: {_first_error_line(finished)}")
    if states[0] not in ("activated", "Active"):
        raise ReadFailed("the controller reports that its power measurement is not active")
    if finished.status != 0:
        raise ReadFailed(f"{tool} ended with status {finished.status}")
    return int(values[0])


def _first_error_line(finished: ProgramResult) -> str:
    """Return the first line of the errors for the user, with unsafe characters replaced.

    The text may come from another machine.
    """
    lines = [line.strip() for line in (finished.errors or finished.output).splitlines() if line.strip()]
    first = re.sub(r"[^ -~]", "?", lines[0])[:120] if lines else "no output"
    return f"no power reading (status {finished.status}): {first}"
