# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the agent asks of Windows: one table of calls, so that all the rest is plain bytes and runs anywhere.

`WindowsCalls` in platforms/windows/api.py is the real one; tests/support/fakes/windows.py holds another that answers with written bytes.
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
"""The call came back, but not with what it promises."""

SUSPEND: Final = 0x0004
"""PBT_APMSUSPEND: the system is about to suspend. Source: winuser.h."""


class WindowsCallError(Exception):
    """One call did not succeed. Translated at once by whoever asked; it never leaves a source."""

    def __init__(self, call: str, code: int) -> None:
        """`code`: the system's error code, or that of the library that was called."""
        super().__init__(f"{call}: error {code}")
        self.call = call
        self.code = code


class CounterValue(NamedTuple):
    """One instance of a performance counter."""

    instance: str
    value: int
    """As the provider counts it, before any formatting."""


class DeviceCalls(Protocol):
    """Device interfaces and their control codes. All raise CallFailed."""

    def interfaces(self, interface: str) -> tuple[str, ...]:
        """Paths of the present devices of an interface class, by its GUID `{…}`; empty when there is none."""

    def open(self, path: str, *, read: bool = True) -> int:
        """A handle; without `read` one that may only ask for what needs no right."""

    def control(self, handle: int, code: int, request: bytes, answer_bytes: int) -> bytes:
        """What DeviceIoControl gives, at most `answer_bytes`, perhaps fewer."""

    def close(self, handle: int) -> None:
        """Give the handle back; never raises."""


class CounterCalls(Protocol):
    """Performance counters by their English names. All raise CallFailed."""

    def counter_open(self, path: str) -> int:
        """A query with one counter, which may stand for several instances; sampled once, which primes it."""

    def counter_read(self, query: int) -> tuple[CounterValue, ...]:
        """Sample, and give the valid instances."""

    def counter_close(self, query: int) -> None:
        """Give the query back; never raises."""


class PowerCalls(Protocol):
    """Clocks, supply, power plan, power events. All raise CallFailed."""

    def power_status(self) -> bytes:
        """SYSTEM_POWER_STATUS."""

    def interrupt_times(self) -> tuple[int, int]:
        """(with, without the time asleep) since the system started, in 100 ns."""

    def plan_value(self, subgroup: str, setting: str) -> int:
        """A value of the active power plan on mains, by GUIDs `{…}`."""

    def on_power_event(self, told: Callable[[int], None]) -> None:
        """Call `told` with each suspend or resume event, in a thread of the system's, for the life of the process."""


class ProcessCalls(Protocol):
    """This process, others, and the console. All raise CallFailed."""

    def quiet_crashes(self) -> None:
        """No dialogue, no report: neither here nor in children."""

    def on_console_event(self, told: Callable[[int], bool]) -> Callable[[], None]:
        """Call `told` with each CTRL_…_EVENT, in a thread of the system's; it says whether that was handled. Gives what ends it."""

    def process(self, number: int) -> int:
        """A handle that tells whether it lives."""

    def lives(self, handle: int) -> bool:
        """Whether the process of a handle has not ended."""

    def job(self) -> int:
        """A new job object whose processes end when its last handle is closed."""

    def job_add(self, job: int, process: int) -> None:
        """Put the process of a handle, and what it will start, into the job."""

    def job_times(self, job: int) -> int:
        """CPU time of all that are or were in the job, 100 ns."""

    def own_usage(self) -> tuple[int, int]:
        """(CPU time in 100 ns, working set in bytes) of this process."""

    def disk_room(self, folder: str) -> tuple[int, int]:
        """(Bytes in all, bytes free for this account) of the disk that a folder is on."""


class FactCalls(Protocol):
    """What the machine is. `firmware_table` raises CallFailed."""

    def firmware_table(self) -> bytes:
        """RawSMBIOSData."""

    def registry(self, key: str, name: str) -> str | int | None:
        """A text or number below HKEY_LOCAL_MACHINE, in the 64-bit view; None when there is none."""


class WindowsCallTable(DeviceCalls, CounterCalls, PowerCalls, ProcessCalls, FactCalls, Protocol):
    """All of them."""
