# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Calls of the installer, through ctypes: access lists, and options of the service.

Run under Wine 10, never on Windows itself. Sources: Windows SDK headers winsvc.h, aclapi.h, sddl.h, winnt.h,
userenv.h.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_void_p, c_wchar_p, cast
from typing import Any, Final

from veilleuse.agent.platforms.windows.api import DWORD, HANDLE, LPCWSTR, LPVOID, check_handle
from veilleuse.agent.platforms.windows.calls import ServiceOptions, WindowsCallError
from veilleuse.agent.platforms.windows.service_api import WindowsServiceCalls

_ALREADY_EXISTS: Final = 183
_INVALID_LEVEL: Final = 124
_TOKEN_QUERY: Final = 0x0008
_TOKEN_USER, _TOKEN_OWNER = 1, 4
_TOKEN_BYTES: Final = 256
_CURRENT_PROCESS: Final = c_void_p(-1)
_SDDL_REVISION: Final = 1
_FILE_OBJECT: Final = 1
"""SE_FILE_OBJECT."""
_OWNER: Final = 0x1
_PROTECTED_DACL: Final = 0x80000004
"""DACL_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION: nothing is inherited from above."""
_CONNECT: Final = 0x1
_CHANGE_AND_START: Final = 0x2 | 0x10
"""SERVICE_CHANGE_CONFIG; SERVICE_START, which failure actions that start the service need."""
_RESTART: Final = 1
"""SC_ACTION_RESTART."""
_FAILURE_ACTIONS, _DELAYED_START, _SID_TYPE, _PRIVILEGES, _PRESHUTDOWN = 2, 3, 5, 6, 7
"""SERVICE_CONFIG_…"""
_UNRESTRICTED: Final = 1
"""SERVICE_SID_TYPE_UNRESTRICTED."""


class SecurityAttributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES: 24 bytes in a 64-bit process."""

    _fields_ = (("size", DWORD), ("descriptor", c_void_p), ("inherit", c_int))


class FailureAction(ctypes.Structure):
    """SC_ACTION: 8 bytes."""

    _fields_ = (("action", c_int), ("wait_milliseconds", DWORD))


class FailureActions(ctypes.Structure):
    """SERVICE_FAILURE_ACTIONSW: 40 bytes in a 64-bit process."""

    _fields_ = (
        ("forgotten_seconds", DWORD),
        ("message", c_wchar_p),
        ("command", c_wchar_p),
        ("count", DWORD),
        ("actions", c_void_p),
    )


class Number(ctypes.Structure):
    """SERVICE_DELAYED_AUTO_START_INFO, SERVICE_SID_INFO, SERVICE_PRESHUTDOWN_INFO: 4 bytes each."""

    _fields_ = (("value", DWORD),)


class Text(ctypes.Structure):
    """SERVICE_REQUIRED_PRIVILEGES_INFOW: a list of texts that ends with an empty one."""

    _fields_ = (("texts", c_void_p),)


class WindowsSetupCalls(WindowsServiceCalls):
    """Implements `SetupCalls` on the running system."""

    def own_sids(self) -> frozenset[str]:
        """See SetupCalls."""
        token = c_void_p()
        self._checked("advapi32", "OpenProcessToken", HANDLE, DWORD, LPVOID)(
            _CURRENT_PROCESS, _TOKEN_QUERY, byref(token)
        )
        ask = self._checked("advapi32", "GetTokenInformation", HANDLE, c_int, LPVOID, DWORD, LPVOID)
        found = set()
        for kind in (_TOKEN_USER, _TOKEN_OWNER):  # both begin with a pointer to the SID
            answer = ctypes.create_string_buffer(_TOKEN_BYTES)
            ask(token, kind, answer, _TOKEN_BYTES, byref(DWORD()))
            found.add(self._sid_text(c_void_p.from_buffer(answer)))
        return frozenset(found)

    def owner(self, path: str) -> str:
        """See SetupCalls."""
        sid, descriptor = c_void_p(), c_void_p()
        self._coded("GetNamedSecurityInfoW", LPCWSTR, c_int, DWORD, *(LPVOID,) * 5)(
            path, _FILE_OBJECT, _OWNER, byref(sid), None, None, None, byref(descriptor)
        )
        try:
            return self._sid_text(sid)
        finally:
            self._free(descriptor)

    def make_folder(self, path: str, access: str) -> bool:
        """See SetupCalls."""
        with self._descriptor(access) as descriptor:
            attributes = SecurityAttributes(ctypes.sizeof(SecurityAttributes), descriptor, 0)
            try:
                self._kernel("CreateDirectoryW", LPCWSTR, LPVOID)(path, byref(attributes))
            except WindowsCallError as error:
                if error.code == _ALREADY_EXISTS:
                    return False
                raise
        return True

    def protect_folder(self, path: str, access: str) -> None:
        """See SetupCalls."""
        with self._descriptor(access) as descriptor:
            dacl = c_void_p()
            self._checked("advapi32", "GetSecurityDescriptorDacl", *(LPVOID,) * 4)(
                descriptor, byref(c_int()), byref(dacl), byref(c_int())
            )
            self._coded("SetNamedSecurityInfoW", LPCWSTR, c_int, DWORD, *(LPVOID,) * 4)(
                path, _FILE_OBJECT, _PROTECTED_DACL, None, None, dacl, None
            )

    def configure_service(self, name: str, options: ServiceOptions) -> tuple[str, ...]:
        """See SetupCalls."""
        waits = options.restart_after_milliseconds
        actions = (FailureAction * len(waits))(*(FailureAction(_RESTART, wait) for wait in waits))
        privileges = ctypes.create_unicode_buffer("\0".join(options.privileges) + "\0")
        failures = FailureActions(
            options.failures_forgotten_seconds, None, None, len(waits), cast(actions, c_void_p)
        )
        settings: tuple[tuple[str, int, ctypes.Structure], ...] = (
            ("failure actions", _FAILURE_ACTIONS, failures),
            ("delayed start", _DELAYED_START, Number(1)),
            ("service SID", _SID_TYPE, Number(_UNRESTRICTED)),
            ("required privileges", _PRIVILEGES, Text(cast(privileges, c_void_p))),
            ("preshutdown timeout", _PRESHUTDOWN, Number(options.preshutdown_milliseconds)),
        )
        change = self._checked("advapi32", "ChangeServiceConfig2W", HANDLE, DWORD, LPVOID)
        unknown = []
        with self._service_handle(name) as service:
            for what, level, value in settings:
                try:
                    change(service, level, byref(value))
                except WindowsCallError as error:
                    if error.code != _INVALID_LEVEL:
                        raise
                    unknown.append(what)
        return tuple(unknown)

    def delete_profile(self, sid: str) -> None:
        """See SetupCalls."""
        self._checked("userenv", "DeleteProfileW", LPCWSTR, LPCWSTR, LPCWSTR)(sid, None, None)

    # ------------------------------------------------------------------------------------ parts

    def _coded(self, name: str, *arguments: object) -> Any:
        """Return a function of advapi32 that raises WindowsCallError when it returns an error code."""
        function = self._function("advapi32", name, *arguments, result=DWORD)

        def call(*given: object) -> None:
            if code := function(*given):
                raise WindowsCallError(name, code)

        return call

    def _free(self, memory: c_void_p) -> None:
        self._function("kernel32", "LocalFree", c_void_p, result=c_void_p)(memory)

    def _sid_text(self, sid: c_void_p) -> str:
        text = c_void_p()
        self._checked("advapi32", "ConvertSidToStringSidW", LPVOID, LPVOID)(sid, byref(text))
        try:
            return ctypes.wstring_at(text.value or 0)
        finally:
            self._free(text)

    @contextmanager
    def _descriptor(self, sddl: str) -> Iterator[c_void_p]:
        """Give the security descriptor that SDDL describes."""
        name = "ConvertStringSecurityDescriptorToSecurityDescriptorW"
        descriptor = c_void_p()
        self._checked("advapi32", name, LPCWSTR, DWORD, LPVOID, LPVOID)(
            sddl, _SDDL_REVISION, byref(descriptor), None
        )
        try:
            yield descriptor
        finally:
            self._free(descriptor)

    @contextmanager
    def _service_handle(self, name: str) -> Iterator[int]:
        """Give a handle that may change the service."""
        close = self._function("advapi32", "CloseServiceHandle", HANDLE)
        open_manager = self._function("advapi32", "OpenSCManagerW", LPCWSTR, LPCWSTR, DWORD, result=HANDLE)
        open_service = self._function("advapi32", "OpenServiceW", HANDLE, LPCWSTR, DWORD, result=HANDLE)
        manager = check_handle("OpenSCManagerW", open_manager(None, None, _CONNECT))
        try:
            service = check_handle("OpenServiceW", open_service(manager, name, _CHANGE_AND_START))
            try:
                yield service
            finally:
                close(service)
        finally:
            close(manager)
