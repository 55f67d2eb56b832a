#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs a collector and this machine's agent: `make run`.

They enrol with a real join file, over mTLS on loopback.

All files are under ./var (`--var`); a second run continues with the same data. A setting in the environment
(`VEILLEUSE__HTTP__ADDRESS`, …) overrides the launcher's. Exit code 0 when it stopped on request, 1 when
something failed, 2 for wrong usage. Each process is its own group and is stopped by its own id. The kernel
stops it if the launcher is killed.
"""

from __future__ import annotations

import os
import signal
import sys

STOP: list[int] = []
"""Signals that asked to stop. `go_on` sees them; nothing is interrupted in between."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def take_terminal() -> int | None:
    """Make this process a foreground group of the terminal, and return the group before: Ctrl-C then reaches
    it and not `make`, which would exit 130.

    None where there is no terminal to take. The Makefile blocks SIGINT until the handler is there.
    """
    for wanted in STOP_SIGNALS:
        signal.signal(wanted, lambda number, _: STOP.append(number))
    before = None
    if sys.stdin.isatty() and os.tcgetpgrp(0) == os.getpgrp() != os.getpid():
        before = os.getpgrp()
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # the shell watches make: it could not resume us
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # The new group has the terminal before we are in it, and its first member takes a Ctrl-C meanwhile.
        reader, writer = os.pipe()
        first = os.fork()
        if first == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(signal.SIGINT in signal.sigpending())
        os.setpgid(first, first)
        os.tcsetpgrp(0, first)
        os.setpgid(0, first)
        os.close(writer)
        if os.waitpid(first, 0)[1]:
            STOP.append(signal.SIGINT)
        os.close(reader)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return before


# Before the other imports, which take longer than a hand.
GROUP_BEFORE = take_terminal() if __name__ == "__main__" else None

import argparse
import ctypes
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from veilleuse.agent import clock

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 30.0
AGENT_STOP_SECONDS = 20.0  # longer than the deadline of one call, 15 s
COLLECTOR_STOP_SECONDS = 15.0
LOG_TAIL_LINES = 12
PDEATHSIG = 1  # PR_SET_PDEATHSIG, linux/prctl.h

# Short periods, so that figures appear within seconds. Only the machine itself may ask for less than a
# minute.
DEFAULTS = {
    "VEILLEUSE__GRPC__ADDRESS": "127.0.0.1:8641",
    "VEILLEUSE__GRPC__ENROLMENT_ADDRESS": "127.0.0.1:8642",
    "VEILLEUSE__HTTP__ADDRESS": "127.0.0.1:8640",
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "5",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
    "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "10",
}


class LaunchError(Exception):
    """A LaunchError holds one line for the user, and the log whose last lines follow."""

    def __init__(self, line: str, log: Path | None = None) -> None:
        super().__init__(line)
        self.log = log


class Stopped(Exception):
    """Raised by `go_on` after a signal asked to stop."""


@dataclass
class Layout:
    """A Layout holds the paths and names of a run."""

    var: Path
    environment: dict[str, str]
    logs: Path = field(init=False)
    collector: Path = field(init=False)
    agent: Path = field(init=False)

    def __post_init__(self) -> None:
        self.logs = self.var / "log"
        self.environment.setdefault("VEILLEUSE__DATA_DIR", str(self.var / "collector"))
        self.environment.setdefault("VEILLEUSE_AGENT__PATHS__STATE", str(self.var / "agent"))
        for name, value in DEFAULTS.items():
            self.environment.setdefault(name, value)
        # The join file of an earlier run may name other ports.
        for name in ("ADDRESS", "ENROLMENT_ADDRESS"):
            self.environment.setdefault(
                f"VEILLEUSE_AGENT__COLLECTOR__{name}", self.environment[f"VEILLEUSE__GRPC__{name}"]
            )
        self.collector = Path(self.environment["VEILLEUSE__DATA_DIR"])
        self.agent = Path(self.environment["VEILLEUSE_AGENT__PATHS__STATE"])

    @property
    def url(self) -> str:
        """Return the address of the pages."""
        return f"http://{self.environment['VEILLEUSE__HTTP__ADDRESS']}/"


@dataclass
class Child:
    """A Child is a started process with its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None

    def died(self) -> bool:
        """Tell if it ended by itself."""
        return self.process.poll() is not None

    def stop(self, seconds: float, first: signal.Signals = signal.SIGTERM) -> bool:
        """Ask it to stop; after `seconds` kill its group. Tell if it stopped in time, with exit code 0.

        Or by the signal itself: it had no handler yet, and nothing to write.
        """
        if self.process.poll() is None:
            self.process.send_signal(first)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        clean = self.process.poll() in (0, -first)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # also processes that it left behind
        self.process.kill()  # no effect on a process that has ended
        self.process.wait()
        return clean


def main() -> int:
    """Parse arguments, run, stop; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="make run", description="A collector and this machine's agent, on loopback."
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="stop by itself after N seconds of measuring"
    )
    parser.add_argument(
        "--var", type=Path, default=ROOT / "var", help="folder of the data and the logs (./var)"
    )
    arguments = parser.parse_args()
    if arguments.seconds is not None and arguments.seconds <= 0:
        parser.error(f"--seconds is {arguments.seconds:g}: it must be more than 0")
    environment = {name: value for name, value in os.environ.items() if name != "SECONDS"}
    layout = Layout(arguments.var.resolve(), environment)
    os.umask(0o077)
    try:
        return run(layout, arguments.seconds)
    except LaunchError as failure:
        print(f"make run: {failure}", file=sys.stderr)
        for line in tail(failure.log):
            print(f"  | {line}", file=sys.stderr)
        return 1


def run(layout: Layout, seconds: float | None) -> int:
    """Start the processes, show them, stop all. Raises LaunchError."""
    children: list[Child] = []
    try:
        try:
            go_on()
            prepare(layout)
            go_on()
            children.append(start(layout, "collector", "veilleuse", "serve"))
            wait_until_ready(layout, children[0])
            enrol(layout)
            go_on()
            children.append(start(layout, "agent", "veilleuse-agent", "run"))
            deadline = None if seconds is None else time.monotonic() + seconds
            announce(layout, seconds)
            watch(layout, children, deadline)
        except Stopped:
            if children:
                say("stopping: the agent sends what it still has")
    finally:
        unclean = [child for child in reversed(children) if not child.stop(_patience(child))]
    if unclean:
        raise LaunchError(
            f"the {unclean[0].name} did not stop cleanly (exit code {unclean[0].process.returncode}): "
            f"see {unclean[0].log}",
            unclean[0].log,
        )
    say(f"stopped; the data stays in {_format_path(layout.var)}, the next `make run` goes on with it")
    return 0


def prepare(layout: Layout) -> None:
    """Prepare folders, free ports and a data directory. Raises LaunchError."""
    for folder in (layout.var, layout.logs):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LaunchError(
                f"cannot make {folder}: {error.strerror}; choose another folder with --var"
            ) from error
    for setting in ("HTTP__ADDRESS", "GRPC__ADDRESS", "GRPC__ENROLMENT_ADDRESS"):
        require_free(f"VEILLEUSE__{setting}", layout.environment[f"VEILLEUSE__{setting}"])
    fresh = not layout.collector.exists()
    call(layout, "init", "veilleuse", "init", "--if-missing")
    if fresh and is_enrolled(layout):
        aside = layout.agent.with_name(f"{layout.agent.name}.{clock.unix_milliseconds()}")
        layout.agent.rename(aside)
        say(
            f"the collector is new and knows no agent: the old agent's state is kept in {_format_path(aside)}"
        )


def require_free(setting: str, address: str) -> None:
    """Raise LaunchError when a process listens at `host:port` already, or it is not an address."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except ValueError as error:
        raise LaunchError(f"{setting} is {address!r}: it must be host:port") from error
    except OSError as error:
        raise LaunchError(
            f"cannot listen at {address}: {error.strerror}; stop what uses the port (another `make run`?) or set {setting}"
        ) from error


def is_enrolled(layout: Layout) -> bool:
    """Tell if the agent is enrolled already."""
    folder = layout.agent / "id"
    return all((folder / name).exists() for name in ("certificate.pem", "key.pem", "collector.json"))


def enrol(layout: Layout) -> None:
    """Enrol this machine with a normal join file. Raises LaunchError."""
    if is_enrolled(layout):
        return
    join = layout.var / "join"
    join.unlink(missing_ok=True)  # left by a run that failed; its token is not reused
    where = ("--entity", "local", "--site", "local", "--population", "server")
    try:
        call(layout, "token create", "veilleuse", "token", "create", *where, "--output", str(join))
        call(layout, "enrol", "veilleuse-agent", "enrol", str(join))
    finally:
        join.unlink(missing_ok=True)
    say("this machine is enrolled")


def announce(layout: Layout, seconds: float | None) -> None:
    """Print the addresses to open."""
    say(f"page     {layout.url}")
    say(f"metrics  {layout.url}metrics")
    say(f"logs     {_format_path(layout.logs)}")
    say("Ctrl-C stops" if seconds is None else f"stops after {seconds:g} s, or with Ctrl-C")


def watch(layout: Layout, children: list[Child], deadline: float | None) -> None:
    """Show the live view until the deadline, a signal, or the death of a child.

    Raises LaunchError, Stopped.
    """
    go_on()
    view = start_view(layout, deadline)
    try:
        while deadline is None or time.monotonic() < deadline:
            for child in children:
                if child.died():
                    raise LaunchError(
                        f"the {child.name} ended by itself with exit code {child.process.returncode}",
                        child.log,
                    )
            if view.died():
                if view.process.returncode != 0:
                    raise LaunchError(f"the live view ended with exit code {view.process.returncode}")
                if deadline is None:
                    return
            pause(0.2)
    finally:
        with suppress(
            subprocess.TimeoutExpired
        ):  # it may have had the Ctrl-C too: a second one would hurry it
            view.process.wait(1.0 if sys.stdout.isatty() else 0.0)
        view.stop(5.0, signal.SIGINT)


def start_view(layout: Layout, deadline: float | None) -> Child:
    """Start `veilleuse top` on this terminal, or plain lines without a terminal."""
    words = [] if sys.stdout.isatty() else ["--plain", "--interval", "5"]
    if deadline is not None:
        words += ["--seconds", f"{max(1, round(deadline - time.monotonic()))}"]
    process = subprocess.Popen(
        [program("veilleuse"), "top", *words], env=layout.environment, preexec_fn=_die_with_us_in_group
    )
    return Child("live view", process, None)


def start(layout: Layout, name: str, *command: str) -> Child:
    """Start a process in its own group, writing to its log."""
    log = layout.logs / f"{name}.log"
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program(command[0]), *command[1:]],
            env=layout.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_us,
        )
    return Child(name, process, log)


def call(layout: Layout, name: str, *command: str) -> None:
    """Run a command to its end. Raises LaunchError with its output."""
    done = subprocess.run(
        [program(command[0]), *command[1:]],
        env=layout.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_die_with_us,
        check=False,
    )
    log = layout.logs / f"{name.replace(' ', '-')}.log"
    log.write_bytes(done.stdout)
    if done.returncode not in (0, 3):  # 3: done, with warnings
        raise LaunchError(f"`{' '.join(command[:2])}` failed with exit code {done.returncode}", log)


def wait_until_ready(layout: Layout, collector: Child) -> None:
    """Wait until the pages and the enrolment port answer. Raises LaunchError."""
    until = time.monotonic() + READY_SECONDS
    enrolment = layout.environment["VEILLEUSE__GRPC__ENROLMENT_ADDRESS"]
    while not (_is_healthy(layout.url + "healthz") and _is_listening(enrolment)):
        if collector.died():
            raise LaunchError(
                f"the collector ended at once with exit code {collector.process.returncode}",
                collector.log,
            )
        if time.monotonic() > until:
            raise LaunchError(
                f"the collector does not answer at {layout.url} after {READY_SECONDS:g} s",
                collector.log,
            )
        pause(0.1)


def program(name: str) -> str:
    """Return the installed command beside this interpreter. Raises LaunchError."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise LaunchError(
            f"the command {name} is not installed beside {sys.executable}: start it with `make run`"
        )
    return found


def tail(log: Path | None) -> list[str]:
    """Return the last lines of a log."""
    if log is None or not log.exists():
        return []
    return log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]


def say(line: str) -> None:
    """Print one plain line."""
    print(f"make run: {line}", flush=True)


def pause(seconds: float) -> None:
    """Wait. Raises Stopped after a signal."""
    time.sleep(seconds)
    go_on()


def go_on() -> None:
    """Raise Stopped after a signal."""
    if STOP:
        raise Stopped


def _patience(child: Child) -> float:
    return AGENT_STOP_SECONDS if child.name == "agent" else COLLECTOR_STOP_SECONDS


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def _format_path(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _death_signal() -> Callable[[], None]:
    """Return a function for a child to call before exec: the kernel ends the child if we are killed (Linux
    only).
    """
    parent = os.getpid()
    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def arm() -> None:
        if prctl is not None:
            prctl(PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return arm


_die_with_us = _death_signal()


def _die_with_us_in_group() -> None:
    """Also block Ctrl-C, which reaches our whole group: the command takes it once it has a handler."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    _die_with_us()


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        if GROUP_BEFORE is not None:
            with suppress(OSError):  # the terminal is closed
                os.tcsetpgrp(0, GROUP_BEFORE)
