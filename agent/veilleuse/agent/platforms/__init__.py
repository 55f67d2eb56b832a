# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parts that differ by operating system. `sys.platform` is read only here.

`here` is the interface of the processes to their system, `SystemClock` its clock. Host facts and hardware ids
have their own modules in `host/`, chosen by `load_module`. Modules of other systems are never imported.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from veilleuse.agent.model import Instant

_SYSTEMS: Final = {"linux": "linux", "win32": "windows", "darwin": "macos"}
"""sys.platform → the name of the system in our modules."""
PLATFORM: Final = sys.platform if sys.platform in _SYSTEMS else sys.platform.rstrip("0123456789")
"""sys.platform without the version that some systems append, as in freebsd14 (before Python 3.14)."""
if PLATFORM not in _SYSTEMS:
    raise SystemExit(
        f"veilleuse-agent does not run on {sys.platform}, only on {', '.join(_SYSTEMS.values())}: "
        "to add a system, see 'run on another system' in docs/development/changes.md"
    )
SYSTEM: Final = _SYSTEMS[PLATFORM]
_MODULES: Final = {
    "system": {
        "linux": "platforms.posix",
        "windows": "platforms.windows.system",
        "macos": "platforms.macos",
    },
    "facts": {system: f"host.{system}" for system in _SYSTEMS.values()},
    "hardware": {system: f"host.hardware_ids.{system}" for system in _SYSTEMS.values()},
}
"""Concern → system → module. macOS imports the shared parts of the Linux module."""


def load_module(concern: str) -> Any:
    """Import the module of this system for `system`, `facts` or `hardware`."""
    return importlib.import_module(f"veilleuse.agent.{_MODULES[concern][SYSTEM]}")


here: Final = cast("System", load_module("system"))


def instant_now() -> Instant:
    """Read all three clocks within microseconds of each other."""
    return Instant(*here.clocks())


class SystemClock:
    """Implements `ports.Clock`: the real clocks, and a sleep that a signal can end."""

    def __init__(self, procfs: str = "/proc") -> None:
        self._procfs = procfs
        sleeper = here.sleeper()
        self.sleep, self.wake, self.close = sleeper.sleep, sleeper.wake, sleeper.close
        """Methods of `Sleeper`, bound directly: no method of ours delays the end of the wait."""

    def now(self) -> Instant:
        """Read all three clocks within microseconds of each other."""
        return instant_now()

    def boot_id(self) -> str:
        """See `System.boot_id`."""
        return here.boot_id(self._procfs)


if TYPE_CHECKING:  # a protocol in the running process would only cost memory
    import subprocess
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Protocol

    class Sleeper(Protocol):
        """A wait that another thread or a signal handler can end."""

        def sleep(self, milliseconds: int) -> None:
            """Wait this long, or until `wake` is called. Time spent suspended does not count."""

        def wake(self) -> None:
            """End the present `sleep`, or the next one."""

        def close(self) -> None:
            """Release its resources."""

    class SleepWatch(Protocol):
        """Reports to the agent that the machine is about to sleep."""

        def confirm_written(self) -> None:
            """Report that the sign of life is in the spool, so the machine may sleep.

            Callable from any thread.
            """

        def close(self) -> None:
            """Stop reporting."""

    class System(Protocol):
        """Functions of the operating system.

        Numbers have the unit in their name; failures raise OSError unless stated.
        """

        CONFIGURATION: Path
        """Default configuration file."""
        STATE: Path
        METERS: Path
        RAPL_HELPER: Path
        """Defaults of settings.Paths."""
        SERVICE_MANAGER: str
        """module:name of what returns a `ports.ServiceManager` or None; empty where none is known."""
        ACCESS_BY_MODE: bool
        """True where the mode of a file tells who may read it."""
        BEFORE_THE_IMAGE: str
        """Last steps before an image is taken, for `prepare-image`."""
        CHILD_FLAGS: int
        """`creationflags` of a child, needed for `ask_to_end`."""

        def prepare_process(self) -> None:
            """Prepare each process at its start: a crash must leave no key on the disk (docs/guarantees.md
            S19).
            """

        def clocks(self) -> tuple[int, int, int]:
            """Return (Unix time, time since boot, time awake since boot) in ms.

            The three clocks are read within microseconds of each other.
            """

        def boot_id(self, procfs: str) -> str:
            """Return an id that lasts until the next boot.

            Empty if unknown: each start then counts as a boot.
            """

        def sleeper(self) -> Sleeper:
            """Create a Sleeper."""

        def on_stop(self, stop: Callable[[], None]) -> Callable[[], None]:
            """Call `stop` when the process is asked to end, from a signal handler or another thread.

            Returns a function that undoes this.
            """

        def on_sleep_ahead(self, announce: Callable[[], None]) -> SleepWatch:
            """Call `announce` when the machine is about to sleep, from a signal handler or another thread."""

        def tell_sleep_ahead(self, process: int) -> None:
            """Trigger the `announce` call of another process."""

        def lock(self, path: Path) -> int:
            """Open the file, create it if absent, and lock it until its descriptor is closed.

            Raises BlockingIOError when it is locked already.
            """

        def is_running(self, process: int) -> bool:
            """Return True when a process with this number exists."""

        def keep_child(self, child: subprocess.Popen[bytes]) -> None:
            """Count a child in `usage`; where the system can, end it together with this process."""

        def ask_to_end(self, child: subprocess.Popen[bytes]) -> None:
            """Ask a child to end in order.

            A child with a pipe as standard input ends in order when that is closed. Where the system cannot
            ask, any other is ended at once.
            """

        def usage(self) -> tuple[int, int]:
            """Return (CPU ms of this process and its children, running or ended; its own resident bytes).

            What is unreadable is 0.
            """

        def disk_room(self, folder: Path) -> tuple[int, int]:
            """Return (total bytes, bytes available to us) of the disk that holds the folder."""

        def replace(self, fresh: Path, path: Path) -> None:
            """Rename over an existing file, even while others read it."""

        def sync_folder(self, folder: Path) -> None:
            """Make renames in the folder durable."""

        def acting_as_owner_of(self, folder: Path) -> AbstractContextManager[None]:
            """Give files that an administrator creates meanwhile to the owner of the folder."""

        def host_name(self) -> str:
            """Return the host name, without a domain if the system stores it so."""
