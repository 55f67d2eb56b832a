# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run the measuring process as on a Mac with a fake kernel: it sleeps an hour, wakes, is shut down, and
prints what it observed.

`sys.platform` is darwin before our modules are imported, so that they choose macOS. psutil remains Linux's.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
import zoneinfo  # noqa: F401  (as psutil: loaded before the platform changes, for they are this system's)
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # noqa: F401

from tests.support.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from tests.support.fakes.macos import FakeMacos

ASLEEP_SECONDS = 3_600
WITH_SLEEP = 4
"""Number of CLOCK_MONOTONIC_RAW."""
WILL_SLEEP = 0xE0000280
_STRANGE = re.compile(r"linux_|windows_|systemd")
BOOT = "A1B2C3D4-0001-4002-8003-0123456789AB"


def main(state: Path) -> int:
    """Run the measuring process and return its exit code: 0 when it ended by itself."""
    sys.platform = "darwin"
    from tests.support.fakes.macos import FakeMacos
    from veilleuse.agent.platforms import SYSTEM, macos
    from veilleuse.agent.resident import process
    from veilleuse.agent.service.launchd import Launchd
    from veilleuse.agent.settings import read_settings

    assert SYSTEM == "macos"
    kernel = FakeMacos({"kern.bootsessionuuid": BOOT, "hw.model": "Mac14,2", "hw.memsize": 2**34})
    asleep = replace_kernel(kernel)
    signs = signs_of(process.Resident)
    macos.PowerWatch.__init__.__defaults__ = (None, PATIENCE_SECONDS)
    threading.Thread(target=a_night, args=(kernel, asleep, signs), daemon=True).start()
    settings = {
        "paths.state": str(state),
        "measure.population": "server",
        "measure.tick_seconds": "1.0",
        "measure.sources": "fake,macos_power,macos_battery",
        "measure.fake_watts": "5.0",
    }
    code = process.run(read_settings(None, {}, settings), None, Launchd(kernel))
    strange = [name for name in sys.modules if name.startswith("veilleuse.agent.") and _STRANGE.search(name)]
    print(f"strange {' '.join(strange)}", flush=True)
    return code


def replace_kernel(kernel: FakeMacos) -> list[int]:
    """Replace the table of calls and the clocks. Return a list with the nanoseconds asleep, 0 until somebody
    changes it."""
    from veilleuse.agent import clock
    from veilleuse.agent.platforms import macos

    asleep, now = [0], [0]
    real_clock = clock.unix_milliseconds

    def read(clock: int) -> int:
        if clock != WITH_SLEEP:  # read second: the two differ by nothing but the sleep
            return now[0]
        now[0] = time.monotonic_ns()
        return now[0] + asleep[0]

    clock.unix_milliseconds = lambda: real_clock() + asleep[0] // 1_000_000
    macos.real_calls = lambda: kernel
    macos.clocks.__defaults__ = (read,)
    return asleep


def signs_of(resident: Any) -> list[str]:
    """Make each step last 0.1 s; return a list that gets the reason of the sign of life after each step."""
    signs: list[str] = []
    step = resident.step

    def step_and_look(self: Any) -> Any:
        announced = step(self)
        signs.append(json.loads(self._spool.control("last_sign"))["why"])
        return announced

    resident.step = step_and_look
    resident.milliseconds_to_next_tick = lambda _: 100
    return signs


def a_night(kernel: FakeMacos, asleep: list[int], signs: list[str]) -> None:
    """Let the process work, sleep an hour, work again, and shut it down."""
    until(lambda: len(signs) >= 3)
    assert kernel.told is not None
    kernel.told(WILL_SLEEP)
    watch = getattr(kernel.told, "__self__")  # noqa: B009  the type is that of any function
    print(f"written {watch._written.is_set() and 'suspend' in signs}", flush=True)
    asleep[0] = ASLEEP_SECONDS * 10**9
    awake = len(signs)
    until(lambda: len(signs) >= awake + 3)
    kernel.values["kern.willshutdown"] = b"\1\0\0\0"
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
