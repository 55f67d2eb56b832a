# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the real calls of service and installer over fake libraries: what Windows is given."""

from __future__ import annotations

import ctypes
from ctypes import c_void_p
from typing import Any

import pytest

from tests.support.fakes.libraries import LAST_ERROR, Libraries, fake_libraries, note, put
from veilleuse.agent.platforms.windows import service_api, setup_api
from veilleuse.agent.platforms.windows.calls import ServiceOptions, ServiceStatus, WindowsCallError
from veilleuse.agent.platforms.windows.service_api import WindowsServiceCalls
from veilleuse.agent.platforms.windows.setup_api import WindowsSetupCalls

OPTIONS = ServiceOptions((5_000, 60_000), 86_400, ("SeChangeNotifyPrivilege", "SeOtherPrivilege"), 30_000)
SID = "S-1-5-18"


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Libraries:
    """Replace the libraries that ctypes loads."""
    return fake_libraries(monkeypatch)


def test_documented_sizes():
    """Sizes of a 64-bit process. Source: winsvc.h, minwinbase.h."""
    assert ctypes.sizeof(service_api.Status) == 28
    assert ctypes.sizeof(service_api.TableEntry) == 16
    assert ctypes.sizeof(setup_api.SecurityAttributes) == 24
    assert ctypes.sizeof(setup_api.FailureAction) == 8
    assert ctypes.sizeof(setup_api.FailureActions) == 40
    assert ctypes.sizeof(setup_api.Number) == 4
    assert ctypes.sizeof(setup_api.Text) == 8


def test_the_control_manager_starts_and_controls_the_service(windows):
    """It calls the main routine of the table, then the handler; statuses go to the registered handle."""
    reported: list[tuple[int, ...]] = []
    handlers: list[Any] = []

    def dispatch(table: Any) -> int:
        first, last = table._obj
        assert (first.name, last.name) == ("veilleuse-agent", None)
        assert not last.routine
        first.routine(0, None)
        assert handlers[0](1, 0, None, None) == 0
        assert handlers[0](13, 4, None, None) == 120
        return 1

    def report(handle: int, told: Any) -> int:
        reported.append((handle, *(getattr(told._obj, name) for name, _ in service_api.Status._fields_)))
        return int(len(reported) < 3)

    windows["advapi32"] = {
        "RegisterServiceCtrlHandlerExW": lambda name, handler, _: note(handlers, handler, len(name)),
        "StartServiceCtrlDispatcherW": dispatch,
        "SetServiceStatus": report,
    }
    calls = WindowsServiceCalls()
    begun: list[bool] = []
    calls.serve("veilleuse-agent", lambda: begun.append(True), lambda code: 0 if code == 1 else 120)
    assert begun
    calls.set_status(ServiceStatus(4, accepted=0x101, wait_milliseconds=7))
    calls.set_status(ServiceStatus(1, own_exit_code=2))
    assert reported == [(15, 0x10, 4, 0x101, 0, 0, 0, 7), (15, 0x10, 1, 0, 1066, 2, 0, 0)]
    with pytest.raises(WindowsCallError, match=f"SetServiceStatus: error {LAST_ERROR}"):
        calls.set_status(ServiceStatus(1))


def test_a_console_is_no_service(windows):
    """The error of the dispatcher is passed on."""
    windows["advapi32"] = {
        "RegisterServiceCtrlHandlerExW": lambda *_: 1,
        "StartServiceCtrlDispatcherW": lambda _: 0,
    }
    with pytest.raises(WindowsCallError, match="StartServiceCtrlDispatcherW"):
        WindowsServiceCalls().serve("x", lambda: None, lambda _: 0)


def test_events(windows):
    """The source is registered once; each event has one text and a number that EventCreate.exe knows."""
    registered: list[str] = []
    events: list[tuple[Any, ...]] = []

    def report(*given: Any) -> int:
        events.append((*given[:7], given[7][0]))
        return int(given[1] != 1)

    windows["advapi32"] = {
        "RegisterEventSourceW": lambda _, name: note(registered, name, 77),
        "ReportEventW": report,
    }
    calls = WindowsServiceCalls()
    calls.log_event("veilleuse-agent", 2, "warning é")
    with pytest.raises(WindowsCallError, match="ReportEventW"):
        calls.log_event("veilleuse-agent", 1, "error")
    assert registered == ["veilleuse-agent"]
    assert events[0] == (77, 2, 0, 1, None, 1, 0, "warning é")
    windows["advapi32"]["RegisterEventSourceW"] = lambda *_: None
    with pytest.raises(WindowsCallError, match="RegisterEventSourceW"):
        WindowsServiceCalls().log_event("veilleuse-agent", 1, "error")


def test_the_service_is_configured(windows):
    """Each option has its level and its structure; a level that Windows does not know is named."""
    given: dict[int, Any] = {}
    closed: list[int] = []

    def change(service: int, level: int, told: Any) -> int:
        value = told._obj
        if level == 2:
            actions = (setup_api.FailureAction * value.count).from_address(value.actions)
            given[level] = (value.forgotten_seconds, [(one.action, one.wait_milliseconds) for one in actions])
        elif level == 6:
            given[level] = ctypes.wstring_at(value.texts, 42)
        else:
            given[level] = value.value
        return int(service == 9)

    windows["advapi32"] = {
        "OpenSCManagerW": lambda _machine, _database, access: 8 if access == 1 else None,
        "OpenServiceW": lambda manager, name, access: (
            9 if (manager, name, access) == (8, "x", 0x12) else None
        ),
        "CloseServiceHandle": lambda handle: note(closed, handle),
        "ChangeServiceConfig2W": change,
    }
    assert WindowsSetupCalls().configure_service("x", OPTIONS) == ()
    privileges = "SeChangeNotifyPrivilege\0SeOtherPrivilege\0\0"
    failures = (86_400, [(1, 5_000), (1, 60_000)])
    assert given == {2: failures, 3: 1, 5: 1, 6: privileges, 7: 30_000}
    assert closed == [9, 8]


@pytest.mark.parametrize(("error", "unknown"), [(124, ("service SID", "required privileges")), (5, None)])
def test_an_older_windows(windows, monkeypatch, error, unknown):
    """Options that it does not know are returned; any other error is raised, and the handles are closed."""
    monkeypatch.setattr(ctypes, "get_last_error", lambda: error)
    closed: list[int] = []
    windows["advapi32"] = {
        "OpenSCManagerW": lambda *_: 8,
        "OpenServiceW": lambda *_: 9,
        "CloseServiceHandle": lambda handle: note(closed, handle),
        "ChangeServiceConfig2W": lambda _, level, __: int(level not in (5, 6)),
    }
    calls = WindowsSetupCalls()
    if unknown is None:
        with pytest.raises(WindowsCallError, match="ChangeServiceConfig2W: error 5"):
            calls.configure_service("x", OPTIONS)
    else:
        assert calls.configure_service("x", OPTIONS) == unknown
    assert closed == [9, 8]
    windows["advapi32"]["OpenServiceW"] = lambda *_: None
    with pytest.raises(WindowsCallError, match="OpenServiceW"):
        WindowsSetupCalls().configure_service("y", OPTIONS)
    assert closed == [9, 8, 8]


TEXT = ctypes.create_unicode_buffer(SID)


def security(windows: Libraries) -> list[int]:
    """Add the functions of access lists; return the list of what is freed."""
    freed: list[int] = []

    def read(sddl: str, revision: int, descriptor: Any, _: object) -> int:
        return put(descriptor, 500, int((sddl, revision) == ("D:P", 1)))

    windows["kernel32"] = {"LocalFree": lambda memory: note(freed, memory.value)}
    windows["advapi32"] = {
        "ConvertStringSecurityDescriptorToSecurityDescriptorW": read,
        "GetSecurityDescriptorDacl": lambda given, _, dacl, __: put(dacl, 501, int(given.value == 500)),
        "ConvertSidToStringSidW": lambda sid, text: put(text, ctypes.addressof(TEXT), int(sid.value == 600)),
    }
    return freed


def test_folders_and_their_access_lists(windows):
    """A folder is made with its list or not at all; the list of another is replaced, and inherits nothing."""
    freed = security(windows)
    made: list[tuple[str, int, int]] = []
    changed: list[tuple[Any, ...]] = []

    def make(path: str, told: Any) -> int:
        made.append((path, told._obj.size, told._obj.descriptor))
        return int(path == "new")

    windows["kernel32"]["CreateDirectoryW"] = make
    windows["advapi32"]["SetNamedSecurityInfoW"] = lambda *given: note(changed, given)
    calls = WindowsSetupCalls()
    assert calls.make_folder("new", "D:P")
    with pytest.raises(WindowsCallError, match=f"CreateDirectoryW: error {LAST_ERROR}"):
        calls.make_folder("refused", "D:P")
    assert made == [("new", 24, 500), ("refused", 24, 500)]
    calls.protect_folder("old", "D:P")
    ((path, kind, what, owner, group, dacl, sacl),) = changed
    assert (path, kind, what, owner, group, dacl.value, sacl) == ("old", 1, 0x80000004, None, None, 501, None)
    assert freed == [500, 500, 500]
    with pytest.raises(WindowsCallError, match="ConvertStringSecurityDescriptor"):
        calls.make_folder("new", "not SDDL")


def test_a_folder_that_exists(windows, monkeypatch):
    """Only this error means that it exists."""
    security(windows)
    windows["kernel32"]["CreateDirectoryW"] = lambda *_: 0
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 183)
    assert not WindowsSetupCalls().make_folder("old", "D:P")


def test_owners(windows):
    """The owner of a path, and the owners of what this process creates, are SIDs as text."""
    freed = security(windows)

    def about(token: c_void_p, kind: int, answer: Any, size: int, _: object) -> int:
        c_void_p.from_buffer(answer).value = 600
        return int((token.value, size) == (4, len(answer)) and kind in (1, 4))

    windows["advapi32"] |= {
        "GetNamedSecurityInfoW": lambda path, kind, what, owner, _g, _d, _s, descriptor: (
            put(owner, 600) or put(descriptor, 700) or (0 if (path, kind, what) == ("here", 1, 1) else 2)
        ),
        "OpenProcessToken": lambda process, access, token: put(
            token, 4, int((process.value, access) == (c_void_p(-1).value, 8))
        ),
        "GetTokenInformation": about,
    }
    calls = WindowsSetupCalls()
    assert calls.owner("here") == SID
    assert freed == [ctypes.addressof(TEXT), 700]
    with pytest.raises(WindowsCallError, match="GetNamedSecurityInfoW: error 2"):
        calls.owner("elsewhere")
    assert calls.own_sids() == {SID}


def test_a_profile_is_deleted(windows):
    """By its SID."""
    deleted: list[str] = []
    windows["userenv"] = {"DeleteProfileW": lambda sid, _path, _computer: note(deleted, sid, 1)}
    WindowsSetupCalls().delete_profile(SID)
    assert deleted == [SID]
