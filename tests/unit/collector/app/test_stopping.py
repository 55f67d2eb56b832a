# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Signals and threads that stop the service."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.support.waiting import until
from veilleuse.collector.app.service import Stop

SERVICE = """
import sys, threading
from veilleuse.collector.app.service import Stop

for _ in range(8):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
for _ in sys.stdin:
    with Stop() as stop:
        print("ready", flush=True)
        stop.wait()
    print("stopped", flush=True)
"""


def test_a_signal_to_a_stopped_process_ends_it_once_it_goes_on():
    """A paused container or frozen unit stops as well: the kernel gives the signal to whichever thread wakes
    first."""
    command = [sys.executable, "-c", SERVICE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            for number in (signal.SIGTERM, signal.SIGINT) * 5:
                print(flush=True, file=process.stdin)
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGSTOP)
                until(partial(_is_stopped, process.pid))
                process.send_signal(number)
                process.send_signal(signal.SIGCONT)
                assert select.select([process.stdout], [], [], 60)[0], number
                assert process.stdout.readline() == "stopped\n"
        finally:
            process.kill()


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"


def test_any_thread_may_set_it_and_a_late_one_does_no_harm():
    """A set after closing does nothing: the thread that watches for damage cannot know that it is closed."""
    with Stop() as stop:
        threading.Thread(target=stop.set).start()
        stop.wait()
    stop.set()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_second_interrupt_ends_at_once_and_handlers_are_put_back():
    """The first interrupt asks for a stop; after the stop the earlier handlers are set again."""
    before = signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        stop.wait()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1
