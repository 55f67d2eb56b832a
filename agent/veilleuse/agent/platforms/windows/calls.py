# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Windows calls of the agent in one table, so that all other code handles plain bytes and runs anywhere.

The real table is `WindowsCalls` in platforms/windows/api.py. A test table answers with recorded bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

# System error codes. Source: Windows documentation, System Error Codes (0-499) and (1000-1299).
ERROR_FILE_NOT_FOUND: Final = 2
ERROR_ACCESS_DENIED: Final = 5
ERROR_GEN_FAILURE: Final = 31
ERROR_SHARING_VIOLATION: Final = 32
ERROR_NOT_SUPPORTED: Final = 50
ERROR_DEVICE_NOT_CONNECTED: Final = 1167
NO_ANSWER: Final = 0
"""The call returned, but without the promised data."""

SUSPEND: Final = 0x0004
"""PBT_APMSUSPEND: the system is about to suspend. Source: winuser.h."""


class WindowsCallError(Exception):
    """Reports one failed call. The caller translates it at once; it never leaves a source."""

    def __init__(self, call: str, code: int) -> None:
        """`code`: error code of the system, or of the called library."""
        super().__init__(f"{call}: error {code}")
        self.call = call
        self.code = code


class CounterValue(NamedTuple):
    """One instance of a performance counter."""

    instance: str
    value: int
    """Raw value from the provider, before any formatting."""


class DeviceCalls(Protocol):
    """Device interfaces and their control codes. Each call raises WindowsCallError."""

    def interfaces(self, interface: str) -> tuple[str, ...]:
        """Return the paths of the present devices of an interface class, by GUID `{…}`; empty if none."""

    def open(self, path: str, *, read: bool = True) -> int:
        """Open a device; without `read`, the handle only allows requests that need no right."""

    def control(self, handle: int, code: int, request: bytes, answer_bytes: int) -> bytes:
        """Return the answer of DeviceIoControl, at most `answer_bytes`, possibly fewer."""

    def close(self, handle: int) -> None:
        """Close the handle; never raises."""


class CounterCalls(Protocol):
    """Performance counters by their English names. Each call raises WindowsCallError."""

    def counter_open(self, path: str) -> int:
        """Open a query with one counter, possibly of several instances; sample it once to prime it."""

    def counter_read(self, query: int) -> tuple[CounterValue, ...]:
        """Sample the query and return the valid instances."""

    def counter_close(self, query: int) -> None:
        """Close the query; never raises."""


class PowerCalls(Protocol):
    """Clocks, supply, power plan and power events. Each call raises WindowsCallError."""

    def power_status(self) -> bytes:
        """Return SYSTEM_POWER_STATUS."""

    def interrupt_times(self) -> tuple[int, int]:
        """Return the time since system start (with, without sleep) in units of 100 ns."""

    def plan_value(self, subgroup: str, setting: str) -> int:
        """Return a value of the active power plan on mains, by GUIDs `{…}`."""

    def on_power_setting(self, setting: str, callback: Callable[[int], None]) -> None:
        """Call `callback` with the value of a power setting, by GUID `{…}`: at once, and at each change.

        It is called in a thread of the system, for the life of the process.
        """

    def on_power_event(self, callback: Callable[[int], None]) -> None:
        """Call `callback` with each suspend or resume event, in a thread of the system.

        This lasts for the life of the process.
        """


class ProcessCalls(Protocol):
    """This process, others, and the console. Each call raises WindowsCallError."""

    def quiet_crashes(self) -> None:
        """Suppress crash dialogues and reports, in this process and its children."""

    def on_console_event(self, callback: Callable[[int], bool]) -> Callable[[], None]:
        """Call `callback` with each CTRL_…_EVENT, in a thread of the system.

        `callback` returns True when it handled the event. Returns a function that ends the calls.
        """

    def process(self, number: int) -> int:
        """Open a handle that tells whether the process lives."""

    def lives(self, handle: int) -> bool:
        """Return True while the process of a handle has not ended."""

    def job(self) -> int:
        """Create a job object whose processes end when its last handle is closed."""

    def job_add(self, job: int, process: int) -> None:
        """Put the process of a handle, and its future children, into the job."""

    def job_times(self, job: int) -> int:
        """Return the CPU time of all present and former processes of the job, in units of 100 ns."""

    def own_usage(self) -> tuple[int, int]:
        """Return (CPU time in units of 100 ns, working set in bytes) of this process."""

    def disk_room(self, folder: str) -> tuple[int, int]:
        """Return (total bytes, bytes available to this account) of the disk that holds a folder."""


class FactCalls(Protocol):
    """Facts of the machine. `firmware_table` raises WindowsCallError."""

    def firmware_table(self) -> bytes:
        """Return RawSMBIOSData."""

    def registry(self, key: str, name: str) -> str | int | bytes | None:
        """Return a text, number or bytes below HKEY_LOCAL_MACHINE, in the 64-bit view; None if absent."""


class ServiceStatus(NamedTuple):
    """Status that a service reports."""

    state: int
    accepted: int = 0
    """Controls that the service takes now."""
    own_exit_code: int = 0
    """Exit code of the service itself; 0 = none."""
    wait_milliseconds: int = 0
    """Time until the next report while a state is pending."""


class ServiceOptions(NamedTuple):
    """Options of a service beside those that its installation sets."""

    restart_after_milliseconds: tuple[int, ...]
    """Waits before the starts after the first, second … failure; the last one repeats."""
    failures_forgotten_seconds: int
    """Time without a failure after which the waits begin anew."""
    privileges: tuple[str, ...]
    """The only privileges of its process."""
    preshutdown_milliseconds: int
    """Time that a shutdown waits for it."""


class ServiceCalls(Protocol):
    """The Service Control Manager and the event log. Each call raises WindowsCallError."""

    def serve(self, name: str, begun: Callable[[], None], control: Callable[[int], int]) -> None:
        """Be the service `name`: call `begun` in a thread of the system; return some time after it returned.

        Meanwhile `control` is called in this thread with each control, and returns 0 or an error code.
        """

    def set_status(self, status: ServiceStatus) -> None:
        """Report the status; from any thread, once begun."""

    def log_event(self, source: str, kind: int, text: str) -> None:
        """Write one event to the log `Application`: `kind` 1 error, 2 warning, 4 information."""


class SetupCalls(Protocol):
    """Access lists and the configuration of the service, for the installer. Raises WindowsCallError."""

    def own_sids(self) -> frozenset[str]:
        """Return the SIDs of this process's user and of the owner of what it creates."""

    def owner(self, path: str) -> str:
        """Return the SID of the owner of a file, folder or link."""

    def make_folder(self, path: str, access: str) -> bool:
        """Create a folder with an access list in SDDL; return False when something has its name already."""

    def protect_folder(self, path: str, access: str) -> None:
        """Replace the access list of a folder; what is in it inherits the new one."""

    def configure_service(self, name: str, options: ServiceOptions) -> tuple[str, ...]:
        """Set the options of a service; return the names of those that this Windows does not know."""

    def delete_profile(self, sid: str) -> None:
        """Delete the profile that Windows made for an account."""

    def log_event(self, source: str, kind: int, text: str) -> None:
        """See ServiceCalls."""


class WindowsCallTable(DeviceCalls, CounterCalls, PowerCalls, ProcessCalls, FactCalls, Protocol):
    """All Windows calls of the agent."""
