# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the service of Windows over a fake Service Control Manager. Under Wine: tests/install."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.agent.commands import main as command_line
from veilleuse.agent.errors import AgentError
from veilleuse.agent.platforms.windows import system
from veilleuse.agent.platforms.windows.calls import ServiceStatus, WindowsCallError
from veilleuse.agent.service.windows_service import (
    INTERROGATE,
    PRESHUTDOWN,
    RUNNING,
    START_PENDING,
    STOP,
    STOP_PENDING,
    STOPPED,
    EventLog,
    WindowsService,
    current,
)

NOT_STARTED_BY_IT = 1063
"""ERROR_FAILED_SERVICE_CONTROLLER_CONNECT."""
SHUTDOWN, POWER_EVENT = 5, 13


class FakeControlManager:
    """Implements `ServiceCalls`: starts a service and sends it controls."""

    def __init__(self) -> None:
        self.refuses = 0
        """Error code of every call; 0: it answers."""
        self.statuses: list[ServiceStatus] = []
        self.events: list[tuple[int, str]] = []
        self.control: Callable[[int], int] = lambda code: code
        self.served = threading.Event()
        self.refused = threading.Event()

    def serve(self, name: str, begun: Callable[[], None], control: Callable[[int], int]) -> None:
        """Start the service and return when it has ended."""
        if self.refuses:
            raise WindowsCallError("StartServiceCtrlDispatcherW", self.refuses)
        self.control = control
        begun()
        self.served.set()

    def set_status(self, status: ServiceStatus) -> None:
        """Record the status."""
        if self.refuses:
            raise WindowsCallError("SetServiceStatus", self.refuses)
        self.statuses.append(status)

    def log_event(self, source: str, kind: int, text: str) -> None:
        """Record the event."""
        if self.refuses:
            self.refused.set()
            raise WindowsCallError("ReportEventW", self.refuses)
        assert source == "veilleuse-agent"
        self.events.append((kind, text))

    @property
    def states(self) -> list[int]:
        """The reported states."""
        return [status.state for status in self.statuses]


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> FakeControlManager:
    """Return a control manager, and forget the service and its stop afterwards."""
    monkeypatch.setattr(WindowsService, "_current", None)
    monkeypatch.setattr(system, "_end_asked", threading.Event())
    monkeypatch.setattr(system, "_stops", [])
    return FakeControlManager()


def test_a_service_begins_and_ends(manager):
    """It is pending until it measures, takes a stop only then, and is stopped last of all."""
    service = WindowsService(manager)
    assert current() is service
    assert manager.statuses == [ServiceStatus(START_PENDING, wait_milliseconds=30_000)]
    service.ready()
    service.alive()
    assert manager.statuses[1:] == [ServiceStatus(RUNNING, accepted=0x101)]
    stopped = threading.Event()
    system._stops.append(stopped.set)
    assert manager.control(STOP) == 0
    assert stopped.is_set()
    service.ready()  # measuring that begins again meanwhile
    service.stopping()
    assert not service.machine_is_going_down()
    assert set(manager.states[2:]) == {STOP_PENDING}
    assert not manager.served.is_set()
    service.ended(0)
    assert manager.statuses[-1] == ServiceStatus(STOPPED)
    assert manager.served.wait(PATIENCE_SECONDS)


def test_a_shutdown_is_known(manager):
    """A stop that precedes a shutdown makes the following time `off`."""
    service = WindowsService(manager)
    service.ready()
    assert manager.control(PRESHUTDOWN) == 0
    assert service.machine_is_going_down()
    assert system._end_asked.is_set()
    service.ended(0)


def test_other_controls_change_nothing(manager):
    """A question is answered; a control that was not asked for is refused."""
    service = WindowsService(manager)
    service.ready()
    assert manager.control(INTERROGATE) == 0
    assert manager.control(SHUTDOWN) == manager.control(POWER_EVENT) == 120
    assert manager.states == [START_PENDING, RUNNING]
    service.ended(0)


@pytest.mark.parametrize(("code", "reported"), [(0, [0]), (2, [2]), (1, []), (130, [])])
def test_only_an_end_in_order_is_reported(manager, code, reported):
    """Wrong configuration keeps it stopped; any other end looks like a crash: Windows starts it again."""
    service = WindowsService(manager)
    service.ended(code)
    assert [one.own_exit_code for one in manager.statuses if one.state == STOPPED] == reported
    service.ended(0)


def test_at_a_console_it_says_what_to_do(manager):
    """The error names both ways to start."""
    manager.refuses = NOT_STARTED_BY_IT
    with pytest.raises(AgentError, match=r"error 1063.*sc start veilleuse-agent.*veilleuse-agent run"):
        WindowsService(manager)
    assert current() is None


def test_a_manager_that_fails_stops_nothing(manager, caplog):
    """A status that cannot be reported is one warning."""
    service = WindowsService(manager)
    manager.refuses = 6
    service.ready()
    assert "status not reported" in caplog.text
    manager.refuses = 0
    service.ended(0)


def test_a_stop_between_two_runs_is_not_lost(manager, monkeypatch):
    """A control that comes while measuring starts again ends the new run at once."""

    class Console:
        def on_console_event(self, callback: Callable[[int], bool]) -> Callable[[], None]:
            return lambda: None

    monkeypatch.setattr(system, "table", Console)
    asked: list[str] = []
    undo = system.on_stop(lambda: asked.append("first"))
    undo()
    system.ask_own_end()
    assert not asked
    system.on_stop(lambda: asked.append("second"))
    assert asked == ["second"]


def test_the_command_refuses_other_systems(capfd):
    """On another system the command says what to use."""
    if sys.platform == "win32":
        pytest.skip("this is Windows")
    assert command_line.main(["windows-service"]) == 1
    assert "use `veilleuse-agent run`" in capfd.readouterr().err


# --------------------------------------------------------------------------------------- event log


@pytest.fixture
def standard_error() -> Iterator[None]:
    """Put standard error back."""
    kept, stream = os.dup(2), sys.stderr
    yield
    os.dup2(kept, 2)
    os.close(kept)
    sys.stderr = stream


def test_standard_error_becomes_events(manager, standard_error, capfd):
    """Each record is one event of its kind; other text is an error, a traceback is one event."""
    events = EventLog(manager)
    print("info measuring sources=[]", file=sys.stderr)
    until(lambda: len(manager.events) == 1)
    os.write(2, b"warning nothing delivered failures=2\r\nveilleuse-agent: no room\nTraceback\n  line 1\n")
    events.close()
    assert manager.events == [
        (4, "info measuring sources=[]"),
        (2, "warning nothing delivered failures=2"),
        (1, "veilleuse-agent: no room\nTraceback\n  line 1"),
    ]
    assert "measuring" not in capfd.readouterr().err


def test_children_write_to_the_same_log(manager, standard_error):
    """A child that inherits standard error needs nothing of its own."""
    events = EventLog(manager)
    subprocess.run([sys.executable, "-c", "import sys; print('error é', file=sys.stderr)"], check=True)
    events.close()
    assert manager.events == [(1, "error é")]


def test_a_log_that_is_full_stops_nothing(manager, standard_error):
    """A refused event is dropped, the next one is written; a long one is cut."""
    events = EventLog(manager)
    manager.refuses = 1502
    os.write(2, b"error first\n")
    assert manager.refused.wait(PATIENCE_SECONDS)
    manager.refuses = 0
    os.write(2, b"error " + b"x" * 40_000)
    events.close()
    assert manager.events
    assert all(set(text) <= set("error x") for _, text in manager.events)
    assert max(len(text) for _, text in manager.events) <= 30_000
