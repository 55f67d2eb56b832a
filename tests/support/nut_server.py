# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a real NUT server on loopback: Debian's `upsd` and its driver `dummy-ups`, in a folder of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
from functools import partial
from pathlib import Path

from tests.support.peers import peer
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_SECONDS, until

FIXTURES = Path(__file__).parents[1] / "fixtures" / "nut"
PROGRAMS = (Path("/usr/lib/nut"), Path("/usr/libexec/nut-driver"), Path("/usr/lib/ups/driver"))
"""Folders of drivers in distributions; in Debian also the real upsd, whose wrapper needs /etc/nut."""
OLDEST_SECONDS = 2
"""Data of a driver that has been silent for this long is stale (MAXAGE)."""


def _program(name: str) -> Path:
    wrapper = peer("upsd")
    found = [folder / name for folder in PROGRAMS if (folder / name).exists()]
    return found[0] if found else wrapper.with_name(name)


class NutServer:
    """This upsd serves one UPS per device file of tests/fixtures/nut, each with its own driver."""

    def __init__(self, folder: Path, *devices: str) -> None:
        self.folder = folder
        self.port = free_port()  # upsd does not report a port that the kernel chose
        self.address = f"127.0.0.1:{self.port}"
        self.certificate = folder / "certificate.pem"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._settings, self._state = folder / "etc", folder / "run"
        self._settings.mkdir()
        self._state.mkdir()
        for name in (self._settings, self._state):
            name.chmod(0o750)
        self._configure(devices)
        for device in devices:
            self.start_driver(device)
        for device in devices:
            until((self._state / f"dummy-ups-{device}").exists, f"the driver of {device} does not start")
        self.start()
        for device in devices:
            until(partial(self._knows, device), f"{device} is not known:\n{self.log()}")

    def start(self) -> None:
        """Start upsd and wait until it answers."""
        self._start("upsd", _program("upsd"))
        until(self._answers, f"upsd does not answer:\n{self.log()}")

    def start_driver(self, device: str) -> None:
        """Start the driver of one UPS."""
        self._start(device, _program("dummy-ups"), "-a", device)

    def log(self) -> str:
        """Return the log of upsd."""
        return (self.folder / "upsd.log").read_text()

    def kill(self, name: str) -> None:
        """Kill `upsd`, or the driver of a device, with SIGKILL."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(PATIENCE_SECONDS)
        (self._state / f"dummy-ups-{name}").unlink(missing_ok=True)

    def freeze(self, name: str) -> None:
        """Stop `upsd` or a driver with SIGSTOP: the process exists and does nothing."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Continue a process that `freeze` stopped."""
        self._processes[name].send_signal(signal.SIGCONT)

    def tell(self, device: str, **variables: object) -> None:
        """Change the values that a device reports; `ups__load=20` is `ups.load`. The driver reads them each
        second."""
        file = self._settings / f"{device}.dev"
        lines = dict(line.split(": ", 1) for line in file.read_text().splitlines() if ": " in line)
        lines |= {name.replace("__", "."): str(value) for name, value in variables.items()}
        fresh = file.with_suffix(".new")
        fresh.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
        fresh.replace(file)

    def close(self) -> None:
        """Kill all processes that this server started."""
        for name in tuple(self._processes):
            self.kill(name)

    def secure(self) -> None:
        """Configure TLS for the next start, with a new certificate for 127.0.0.1 in `self.certificate`."""
        database, empty, noise = (self.folder / name for name in ("nss", "empty", "noise"))
        empty.write_text("")
        noise.write_bytes(os.urandom(64))
        database.mkdir(mode=0o700)
        certutil = str(peer("certutil"))
        made = f"-S -x -n upsd -s CN=upsd -t C,C,C --extSAN ip:127.0.0.1 -m 1 -k ec -q nistp256 -z {noise} -f {empty}"
        for words in ("-N --empty-password", made, f"-L -n upsd -a -o {self.certificate}"):
            subprocess.run([certutil, *words.split(), "-d", database], check=True, capture_output=True)
        with (self._settings / "upsd.conf").open("a") as file:
            file.write(f'CERTPATH {database}\nCERTIDENT "upsd" ""\n')

    def _configure(self, devices: tuple[str, ...]) -> None:
        sections = "".join(
            f"[{device}]\n  driver = dummy-ups\n  port = {device}.dev\n  mode = dummy-loop\n  pollinterval = 1\n"
            for device in devices
        )
        self._write("ups.conf", f"{sections}[orphan]\n  driver = dummy-ups\n  port = none.dev\n")
        self._write("upsd.conf", f"LISTEN 127.0.0.1 {self.port}\nMAXAGE {OLDEST_SECONDS}\n")
        self._write("upsd.users", "[watcher]\n  password = secret word\n")
        for device in devices:
            shutil.copy(FIXTURES / f"{device}.dev", self._settings)

    def _write(self, name: str, text: str) -> None:
        file = self._settings / name
        file.write_text(text)
        file.chmod(0o640)

    def _start(self, name: str, program: Path, *words: str) -> None:
        places = dict.fromkeys(("NUT_STATEPATH", "NUT_ALTPIDPATH", "NUT_PIDPATH"), str(self._state))
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [program, *words, "-F", "-u", getpass.getuser()],
                env={**os.environ, **places, "NUT_CONFPATH": str(self._settings)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _answers(self) -> bool:
        return bool(self._asked("NETVER"))

    def _knows(self, device: str) -> bool:
        status = self._asked(f"GET VAR {device} ups.status")
        return status.startswith("VAR") and "WAIT" not in status

    def _asked(self, line: str) -> str:
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS) as connection:
                connection.sendall(f"{line}\n".encode())
                return connection.recv(256).decode()
        except OSError:
            return ""
