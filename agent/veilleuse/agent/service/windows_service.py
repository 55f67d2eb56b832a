# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Adapter to the Service Control Manager of Windows; standard error goes to the event log.

Sources: Windows documentation, Service Programs, ServiceMain, HandlerEx, SERVICE_STATUS, Event Logging. Run
under Wine, never on Windows itself: docs/windows.md.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from typing import Final

from veilleuse.agent.errors import AgentError
from veilleuse.agent.platforms.windows import system
from veilleuse.agent.platforms.windows.calls import ServiceCalls, ServiceStatus, WindowsCallError

log = logging.getLogger(__name__)

NAME: Final = "veilleuse-agent"
"""Name of the service and of its event source."""
STOPPED, START_PENDING, STOP_PENDING, RUNNING = 1, 2, 3, 4
STOP, INTERROGATE, PRESHUTDOWN = 1, 4, 15
_ACCEPTED: Final = 0x001 | 0x100
"""SERVICE_ACCEPT_STOP, SERVICE_ACCEPT_PRESHUTDOWN. Suspends are announced otherwise: system.SuspendWatch."""
_NOT_KNOWN: Final = 120
"""ERROR_CALL_NOT_IMPLEMENTED, the answer to any other control."""
_PENDING_MILLISECONDS: Final = 30_000
_BEGIN_SECONDS: Final = 30.0
"""Windows itself waits no longer for a process to connect."""
_ENDS_IN_ORDER: Final = frozenset({0, 2})
"""Exit codes after which the service stays stopped: asked to stop, or wrong configuration.

Any other end is not reported: Windows takes it for a crash and starts the service again.
"""
_KINDS: Final = {"info": 4, "debug": 4, "warning": 2}
"""First word of a line → kind of its event; 1 (error) for any other."""
_NEXT_EVENT: Final = re.compile(r"\n(?=(?:debug|info|warning|error|critical|veilleuse-agent:) ?)")
_EVENT_CHARACTERS: Final = 30_000
"""An event has room for 31,839. Source: ReportEvent."""
_FLUSH_SECONDS: Final = 1.0


class WindowsService:
    """Implements `ports.ServiceManager` for a process that the Service Control Manager started."""

    _current: WindowsService | None = None

    def __init__(self, calls: ServiceCalls) -> None:
        """Connect to the Service Control Manager. Raises AgentError when it did not start this process."""
        self._calls = calls
        self._stopping = False
        self._going_down = False
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._failure = "no answer"
        threading.Thread(target=self._serve, daemon=True).start()
        self._begun.wait(_BEGIN_SECONDS)
        if self._failure:
            raise AgentError(
                f"this is not the service {NAME} ({self._failure}): the Service Control Manager "
                f"starts it (`sc start {NAME}`); at a console use `veilleuse-agent run`"
            )
        WindowsService._current = self

    # -------------------------------------------------------------------------- ports.ServiceManager

    def ready(self) -> None:
        """Report that measuring has begun."""
        if not self._stopping:
            self._report(ServiceStatus(RUNNING, _ACCEPTED))

    def alive(self, status: str = "") -> None:
        """Do nothing: Windows has no watchdog."""

    def stopping(self) -> None:
        """Report that the process is ending."""
        self._stopping = True
        self._report(ServiceStatus(STOP_PENDING, wait_milliseconds=_PENDING_MILLISECONDS))

    def machine_is_going_down(self) -> bool:
        """Return True when the stop came from a shutdown."""
        return self._going_down

    def ended(self, code: int) -> None:
        """Report the end of the process with this exit code. Nothing may follow but the end."""
        if code in _ENDS_IN_ORDER:
            self._report(ServiceStatus(STOPPED, own_exit_code=code))
            self._ended.set()

    # ------------------------------------------------------------------------- threads of the system

    def _serve(self) -> None:
        try:
            self._calls.serve(NAME, self._begin, self.control)
        except WindowsCallError as error:
            self._failure = str(error)
            self._begun.set()

    def _begin(self) -> None:
        """Begin the service; it lasts until this function returns."""
        self._report(ServiceStatus(START_PENDING, wait_milliseconds=_PENDING_MILLISECONDS))
        self._failure = ""
        self._begun.set()
        self._ended.wait()

    def control(self, code: int) -> int:
        """Take one control; return 0 or an error code."""
        if code in (STOP, PRESHUTDOWN):
            self._going_down = code == PRESHUTDOWN
            self.stopping()
            system.ask_own_end()
        return 0 if code in (STOP, PRESHUTDOWN, INTERROGATE) else _NOT_KNOWN

    def _report(self, status: ServiceStatus) -> None:
        try:
            self._calls.set_status(status)
        except WindowsCallError as error:
            log.warning("status not reported", extra={"reason": str(error)})


def current() -> WindowsService | None:
    """Return the service that this process is; None for any other process."""
    return WindowsService._current


class EventLog:
    """Writes standard error to the event log: that of this process, and of the children that inherit it."""

    def __init__(self, calls: ServiceCalls) -> None:
        """Take over standard error; a service has none, or one that nobody sees."""
        self._calls = calls
        self._read, write = os.pipe()
        os.dup2(write, 2)  # the C library too: gRPC writes there
        os.close(write)
        sys.stderr = os.fdopen(
            2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left; the process must end now. A child that lives on is not waited for."""
        sys.stderr.flush()
        os.close(2)
        self._thread.join(_FLUSH_SECONDS)

    def _copy(self) -> None:
        while chunk := os.read(self._read, 1 << 16):
            for text in events(chunk.decode("utf-8", "replace")):
                kind = _KINDS.get(text.partition(" ")[0], 1)
                try:
                    self._calls.log_event(NAME, kind, text[:_EVENT_CHARACTERS])
                except WindowsCallError:
                    continue  # nobody is left to be told


def events(text: str) -> list[str]:
    """Cut what was written into events: one for each line, with the lines of a traceback in one."""
    return [part for part in _NEXT_EVENT.split(text.replace("\r", "").rstrip()) if part]
