# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a real SNMP agent on loopback: snmpsim, which simulates the devices of tests/fixtures/snmp."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS, until

FIXTURES = Path(__file__).parents[1] / "fixtures" / "snmp"
USER = "watcher"
AUTHENTICATION_SECRET = "first secret"
PRIVACY_SECRET = "second secret"
ENGINE_ID = "80004fb8050102030405"
"""Engine id of each start; a real device keeps its engine id when it boots."""


class SnmpServer:
    """One SNMP engine; a device's name is its community in v2c and its context in v3."""

    def __init__(self, folder: Path) -> None:
        self._program = Path(sys.executable).with_name("snmpsim-command-responder")
        if not self._program.exists():
            pytest.skip("needs snmpsim: it is in the dev requirements, `make setup`")
        self.folder = folder
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        shutil.copytree(FIXTURES, folder / "devices")
        self.start()

    def start(self, engine_id: str = ENGINE_ID) -> None:
        """Start snmpsim and wait until it listens."""
        options = {
            "cache-dir": self.folder / "cache",
            "process-user": pwd.getpwuid(os.getuid()).pw_name,
            "process-group": grp.getgrgid(os.getgid()).gr_name,
        }
        engine = {
            "v3-user": USER,
            "v3-auth-key": AUTHENTICATION_SECRET,
            "v3-auth-proto": "SHA256",
            "v3-priv-key": PRIVACY_SECRET,
            "v3-priv-proto": "AES128",
            "data-dir": self.folder / "devices",
            "agent-udpv4-endpoint": self.address,
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        words += ["--v3-engine-id", engine_id, *(f"--{name}={value}" for name, value in engine.items())]
        with (self.folder / "snmpsim.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(self.folder)},
            )
        until(self._listens, "snmpsim does not listen; see snmpsim.log")

    def kill(self) -> None:
        """Kill snmpsim with SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """Stop snmpsim with SIGSTOP: the process exists and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue after `freeze`; requests that arrived meanwhile are answered then."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def tell(self, device: str, oid: str, value: int) -> None:
        """Change the value that a device reports for `oid`; snmpsim looks at its file at each request."""
        file = self.folder / "devices" / f"{device}.snmprec"
        rows = [line.split("|") for line in file.read_text().splitlines()]
        fresh = file.with_suffix(".new")
        fresh.write_text(
            "".join(f"{name}|{kind}|{value if name == oid else former}\n" for name, kind, former in rows)
        )
        later = file.stat().st_mtime + 2  # snmpsim compares whole seconds
        os.utime(fresh, (later, later))
        fresh.replace(file)  # atomically: snmpsim would index half a file

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "snmpsim.log").read_text()
        connections = psutil.Process(self._process.pid).net_connections("udp")
        return any(one.laddr.port == self.port for one in connections)
