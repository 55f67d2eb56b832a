# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sleep and time on Windows: the clocks, the boot, the event before a suspend, the power plan on mains.

Sources: Windows documentation, Interrupt Time (realtimeapiset.h); PowerRegisterSuspendResumeNotification (powerbase.h);
power setting GUIDs (winnt.h). docs/windows.md says what of it the resident does not use yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from veilleuse.agent.model import Instant
from veilleuse.agent.powerplan import NEVER, PowerPlan
from veilleuse.agent.windows_calls import SUSPEND, CallFailed, FactCalls, PowerCalls

_NANOSECONDS_PER_MILLISECOND: Final = 1_000_000
_100NS_PER_MILLISECOND: Final = 10_000

BOOT_KEY: Final = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
BOOT_VALUE: Final = "BootId"

VIDEO, VIDEO_IDLE = "{7516b95f-f776-4464-8c53-06167f40cc99}", "{3c0bc021-c8a8-4e07-a973-6b14cbcb2b7e}"
"""GUID_VIDEO_SUBGROUP, GUID_VIDEO_POWERDOWN_TIMEOUT."""
SLEEP: Final = "{238c9fa8-0aad-41ed-83f4-97be242c8f20}"
"""GUID_SLEEP_SUBGROUP."""
STANDBY_IDLE, HIBERNATE_IDLE = (
    "{29f6c1db-86da-48c5-9fdb-f2b67b1f44da}",
    "{9d7815a6-7ee4-497e-8888-515a05f02364}",
)
"""GUID_STANDBY_TIMEOUT, GUID_HIBERNATE_TIMEOUT."""
_LONGEST_SECONDS: Final = 7 * 86_400
"""Beyond a week a timeout is none; Windows' own programs write 0 for never, some tools write 0xFFFFFFFF."""

ANSWER_SECONDS: Final = 1.5
"""How long a suspend is held up at most for the sign of life: Windows goes on after about 2 s, whatever is answered."""


def instant_now(calls: PowerCalls) -> Instant:
    """The three clocks. Raises CallFailed.

    Interrupt time goes on while the machine sleeps, unbiased interrupt time stands still: boottime and monotonic of Linux.
    Not GetTickCount64 and not Python's monotonic clock: neither says which of the two it is.
    """
    biased, unbiased = calls.interrupt_times()
    return Instant(
        unix_milliseconds=time.time_ns() // _NANOSECONDS_PER_MILLISECOND,
        boottime_milliseconds=biased // _100NS_PER_MILLISECOND,
        monotonic_milliseconds=unbiased // _100NS_PER_MILLISECOND,
    )


def boot_id(calls: FactCalls) -> str:
    """The number of this boot, as Windows' own prefetcher counts them; empty = not known: every start is another boot.

    Windows has no boot id. Unix time less time since boot is not one: it moves with every correction of the clock, and a boot
    taken for another one would turn sleep into `unknown`. After a fast start (the session of the kernel was hibernated) the
    number may be new while interrupt time goes on: the time between is `unknown` then, which claims nothing.
    """
    number = calls.registry(BOOT_KEY, BOOT_VALUE)
    return f"windows-{number}" if isinstance(number, int) and number > 0 else ""


def power_plan(calls: PowerCalls) -> PowerPlan:
    """Of the active plan, which is the machine's, not a user's; None for what cannot be read."""
    standby, hibernate = _seconds(calls, SLEEP, STANDBY_IDLE), _seconds(calls, SLEEP, HIBERNATE_IDLE)
    told = [seconds for seconds in (standby, hibernate) if seconds]
    sleep = min(told) if told else (None if standby is None else NEVER)
    return PowerPlan(_seconds(calls, VIDEO, VIDEO_IDLE), sleep)


def _seconds(calls: PowerCalls, subgroup: str, setting: str) -> int | None:
    try:
        value = calls.plan_value(subgroup, setting)
    except CallFailed:
        return None
    return value if 0 <= value <= _LONGEST_SECONDS else NEVER


class SuspendWatch:
    """Tells the resident that the machine is about to sleep, and holds the suspend up until the sign of life is written."""

    def __init__(self, announce: Callable[[], None], answer_seconds: float = ANSWER_SECONDS) -> None:
        """`announce`: as the handler of SLEEP_AHEAD does on Linux; called in a thread of the system's."""
        self._announce = announce
        self._answer_seconds = answer_seconds
        self._written = threading.Event()

    def start(self, calls: PowerCalls) -> None:
        """From now on. Raises CallFailed: without it a sleep is found from the clocks, unless the machine dies asleep."""
        calls.on_power_event(self.told)

    def told(self, event: int) -> None:
        """One power event; of all but a suspend nothing is made: what came of it the clocks say."""
        if event == SUSPEND:
            self._written.clear()
            self._announce()
            self._written.wait(self._answer_seconds)

    def written(self) -> None:
        """The sign of life is in the spool: the machine may sleep."""
        self._written.set()
