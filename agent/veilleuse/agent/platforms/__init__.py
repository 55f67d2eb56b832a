# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What each operating system does its own way. `sys.platform` is asked here, and in sources/ for the sources.

`here` is what the processes ask of the system they run on. What the machine is, and what tells it from another one, are
modules of their own in `host/`, chosen by `of`. Those of another system are never imported.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final, cast

SYSTEM: Final = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
_MODULES: Final = {
    "system": {"linux": "posix"}.get(SYSTEM, f"{SYSTEM}.system"),
    "facts": f"host.{SYSTEM}",
    "hardware": f"host.hardware_ids.{SYSTEM}",
}
"""Linux' own is also what macOS shares."""


def of(concern: str) -> Any:
    """The module of this system for `system`, `facts` or `hardware`."""
    folder = "platforms." if concern == "system" else ""
    return importlib.import_module(f"veilleuse.agent.{folder}{_MODULES[concern]}")


here: Final = cast("System", of("system"))


if TYPE_CHECKING:  # in the process that stays a protocol is memory for nothing
    import subprocess
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Protocol

    class Sleeper(Protocol):
        """A wait that another thread, or a signal handler, can end."""

        def sleep(self, milliseconds: int) -> None:
            """Wait that long, or less when `wake` is called. Time spent suspended does not count."""

        def wake(self) -> None:
            """End the present or the next `sleep`."""

        def close(self) -> None:
            """Give back what it holds."""

    class SleepWatch(Protocol):
        """Somebody tells that the machine is about to sleep."""

        def written(self) -> None:
            """The sign of life is in the spool: the machine may sleep. From any thread."""

        def close(self) -> None:
            """Nobody is told any more."""

    class System(Protocol):
        """What the processes need. Numbers in the unit of their name; what fails raises OSError where nothing else is said."""

        CONFIGURATION: Path
        """Default configuration file."""
        STATE: Path
        METERS: Path
        RAPL_HELPER: Path
        """Defaults of settings.Paths."""
        SERVICE_MANAGER: str
        """module:class of `ports.ServiceManager`; empty = none is known here."""
        ACCESS_BY_MODE: bool
        """Whether a file's mode says who may read it."""
        CHILD_FLAGS: int
        """`creationflags` of a child that `ask_to_end` can end."""

        def prepare_process(self) -> None:
            """First of all in each process: a crash leaves no key on the disk (docs/guarantees.md S19)."""

        def clocks(self) -> tuple[int, int, int]:
            """(Unix time, time since boot, the same without the time asleep), ms, read within microseconds of each other."""

        def boot_id(self, procfs: str) -> str:
            """The same until the next boot; empty = not known: every start then counts as another boot."""

        def sleeper(self) -> Sleeper:
            """A new one."""

        def on_stop(self, stop: Callable[[], None]) -> Callable[[], None]:
            """Call `stop`, from a signal handler or another thread, when the process is asked to end. Gives what takes it back."""

        def on_sleep_ahead(self, announce: Callable[[], None]) -> SleepWatch:
            """Call `announce`, from a signal handler or another thread, when the machine is about to sleep."""

        def tell_sleep_ahead(self, process: int) -> None:
            """Have another process's `announce` called."""

        def lock(self, path: Path) -> int:
            """A descriptor of the file, locked until it is closed; made where it is not. Raises BlockingIOError when it is held."""

        def is_running(self, process: int) -> bool:
            """Whether there is a process of that number."""

        def parent_watch(self, process: int) -> Callable[[], bool]:
            """Asked again and again: whether our parent, which has that number, still lives."""

        def keep_child(self, child: subprocess.Popen[bytes]) -> None:
            """It is counted in `usage`, and where the system can, it ends with this process."""

        def ask_to_end(self, child: subprocess.Popen[bytes]) -> None:
            """In order where the system has a way, else at once."""

        def usage(self) -> tuple[int, int]:
            """(CPU ms of this process and of its finished children, resident bytes now of this one; 0 = not readable)."""

        def disk_room(self, folder: Path) -> tuple[int, int]:
            """(Bytes in all, bytes free for us) of the disk that it is on."""

        def replace(self, fresh: Path, path: Path) -> None:
            """Rename over what is there, whoever reads it just now."""

        def sync_folder(self, folder: Path) -> None:
            """Make renames in it durable."""

        def acting_as_owner_of(self, folder: Path) -> AbstractContextManager[None]:
            """What an administrator makes meanwhile belongs to the folder's owner."""

        def host_name(self) -> str:
            """Without a domain where the system keeps it so."""
