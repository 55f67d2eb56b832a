# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Calls of a Windows service, through ctypes: the Service Control Manager and the event log.

Apart from api.py, because only the service needs them. Run under Wine 10, never on Windows itself. Sources:
Windows SDK headers winsvc.h, winbase.h (ReportEvent).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import byref, c_void_p
from typing import Any, Final

from veilleuse.agent.platforms.windows.api import DWORD, HANDLE, LPCWSTR, LPVOID, WindowsCalls, check_handle
from veilleuse.agent.platforms.windows.calls import ServiceStatus

_OWN_PROCESS: Final = 0x10
_SPECIFIC_ERROR: Final = 1066
"""ERROR_SERVICE_SPECIFIC_ERROR: the code is the service's own."""
_EVENT_ID: Final = 1
"""Any of 1 to 1000: in EventCreate.exe, which the installer names for our source, they are the text alone."""
_CALLBACK: Any = getattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE)
_MAIN_ROUTINE: Final = _CALLBACK(None, DWORD, c_void_p)
_CONTROL_ROUTINE: Final = _CALLBACK(DWORD, DWORD, DWORD, c_void_p, c_void_p)


class TableEntry(ctypes.Structure):
    """SERVICE_TABLE_ENTRYW."""

    _fields_ = (("name", LPCWSTR), ("routine", _MAIN_ROUTINE))


class Status(ctypes.Structure):
    """SERVICE_STATUS: 28 bytes."""

    _fields_ = (
        ("type", DWORD),
        ("state", DWORD),
        ("accepted", DWORD),
        ("exit_code", DWORD),
        ("own_exit_code", DWORD),
        ("checkpoint", DWORD),
        ("wait_milliseconds", DWORD),
    )


class WindowsServiceCalls(WindowsCalls):
    """Implements `ServiceCalls` on the running system."""

    def __init__(self) -> None:
        """See WindowsCalls."""
        super().__init__()
        self._service: int | None = None
        self._source: int | None = None

    def serve(self, name: str, begun: Callable[[], None], control: Callable[[int], int]) -> None:
        """See ServiceCalls."""
        register = self._function(
            "advapi32",
            "RegisterServiceCtrlHandlerExW",
            *(LPCWSTR, _CONTROL_ROUTINE, LPVOID),
            result=HANDLE,
        )

        def service_main(_count: int, _words: object) -> None:
            self._service = register(name, control_routine, None)
            begun()

        control_routine = _CONTROL_ROUTINE(lambda code, _type, _data, _context: control(code))
        entries = (TableEntry * 2)(TableEntry(name, _MAIN_ROUTINE(service_main)), TableEntry())
        self._checked("advapi32", "StartServiceCtrlDispatcherW", LPVOID)(byref(entries))

    def set_status(self, status: ServiceStatus) -> None:
        """See ServiceCalls."""
        code = status.own_exit_code
        plain = Status(
            type=_OWN_PROCESS,
            state=status.state,
            accepted=status.accepted,
            exit_code=_SPECIFIC_ERROR if code else 0,
            own_exit_code=code,
            wait_milliseconds=status.wait_milliseconds,
        )
        self._checked("advapi32", "SetServiceStatus", HANDLE, LPVOID)(self._service, byref(plain))

    def log_event(self, source: str, kind: int, text: str) -> None:
        """See ServiceCalls."""
        if self._source is None:
            register = self._function("advapi32", "RegisterEventSourceW", LPCWSTR, LPCWSTR, result=HANDLE)
            self._source = check_handle("RegisterEventSourceW", register(None, source))
        report = self._checked(
            "advapi32",
            "ReportEventW",
            *(HANDLE, ctypes.c_uint16, ctypes.c_uint16, DWORD, LPVOID),
            *(ctypes.c_uint16, DWORD, LPVOID, LPVOID),
        )
        report(self._source, kind, 0, _EVENT_ID, None, 1, 0, (LPCWSTR * 1)(text), None)
