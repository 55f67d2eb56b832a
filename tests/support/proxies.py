# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run Debian's squid and HAProxy on loopback, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support.peers import peer
from tests.support.ports import free_port
from tests.support.processes import ran
from tests.support.waiting import until

LIBRARY = Path("/usr/lib/squid")
"""Helper programs of Debian's squid."""


class _Proxy:
    """One proxy process; a context manager that stops it and deletes its folder."""

    def __init__(self) -> None:
        # squid leaves root, and then cannot pass through pytest's folders
        self.folder = Path(tempfile.mkdtemp(prefix="veilleuse-proxy-", dir="/tmp"))
        self.folder.chmod(0o777)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def command(self) -> list[str | Path]:
        """Return the command that runs in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the proxy, and wait until it accepts connections."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        until(self._accepts, f"{type(self).__name__} does not start", every=0.01)

    def stop(self) -> None:
        """End the proxy with its connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "output").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Squid(_Proxy):
    """A forward proxy that allows CONNECT to `ports` only, as Debian's default allows 443.

    With `users` (name → password) it asks for Basic authentication. With `inspecting`, the PEM of a CA and
    its key, it shows certificates of that CA. `hosts` are names that it resolves to 127.0.0.1.
    """

    def __init__(
        self,
        *ports: int,
        users: Mapping[str, str] | None = None,
        inspecting: bytes = b"",
        hosts: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self._program = peer("squid")
        self._log = self.folder / "access"
        named = self._write("hosts", "".join(f"127.0.0.1 {name}\n" for name in hosts).encode())
        bump = []
        if inspecting:
            self._write("ca.pem", inspecting)
            bump = self._bump()
        lines = [
            f"http_port {self.address}" + (f" ssl-bump tls-cert={self.folder}/ca.pem" if inspecting else ""),
            f"pid_filename {self.folder}/pid",
            f"cache_log {self.folder}/log",
            f"access_log stdio:{self._log}",
            f"hosts_file {named}",
            f"coredump_dir {self.folder}",
            "cache deny all",
            "pinger_enable off",
            *bump,
            f"acl SSL_ports port {' '.join(map(str, ports))}",
            "http_access deny CONNECT !SSL_ports",
            *(self._authentication(users) if users else ("http_access allow localhost",)),
            "http_access deny all",
        ]
        self._write("squid.conf", "\n".join(lines).encode() + b"\n")

    def command(self) -> list[str | Path]:
        # the name keeps squids of several test processes apart in shared memory
        return [self._program, "-N", "-n", f"veilleuse{self.port}", "-f", self.folder / "squid.conf"]

    def stop(self) -> None:
        super().stop()
        for left in Path("/dev/shm").glob(f"veilleuse{self.port}-*"):
            left.unlink()
        (self.folder / "pid").unlink(missing_ok=True)

    def wait_for(self, request: str, times: int = 1) -> None:
        """Wait for `METHOD target status user` in the log, where a tunnel comes when it ends."""
        until(lambda: self._requests().count(request) >= times, f"no {request} in {self._requests()}")

    def _requests(self) -> list[str]:
        rows = [line.split() for line in self._log.read_text().splitlines()]
        return [f"{row[5]} {row[6]} {row[3].rpartition('/')[2]} {row[7]}" for row in rows]

    def _write(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        (self.folder / name).chmod(0o644)
        return self.folder / name

    def _authentication(self, users: Mapping[str, str]) -> list[str]:
        hashed = {
            name: ran([peer("openssl"), "passwd", "-apr1", password], check=True).stdout.strip()
            for name, password in users.items()
        }
        passwords = self._write("passwords", "".join(f"{a}:{b}\n" for a, b in hashed.items()).encode())
        return [
            f"auth_param basic program {LIBRARY}/basic_ncsa_auth {passwords}",
            "auth_param basic children 1",
            "acl known proxy_auth REQUIRED",
            "http_access allow known",
        ]

    def _bump(self) -> list[str]:
        store = self.folder / "made"
        ran([LIBRARY / "security_file_certgen", "-c", "-s", store, "-M", "4MB"], check=True)
        if os.geteuid() == 0:
            for path in (store, *store.rglob("*")):
                shutil.chown(path, "proxy")
        return [
            f"sslcrtd_program {LIBRARY}/security_file_certgen -s {store} -M 4MB",
            "sslcrtd_children 1",
            "acl hello at_step SslBump1",
            "ssl_bump peek hello",
            "ssl_bump bump all",
            "tls_outgoing_options flags=DONT_VERIFY_PEER",
            "sslproxy_cert_error allow all",
        ]


class HaProxy(_Proxy):
    """HAProxy with a configuration, in which `bind :443` becomes its address."""

    def __init__(self, configuration: str) -> None:
        super().__init__()
        self._program = peer("haproxy")
        text = configuration.replace("bind :443", f"bind {self.address}")
        (self.folder / "haproxy.cfg").write_text(text)

    def command(self) -> list[str | Path]:
        # Under libfaketime HAProxy does not begin to listen; no date matters to it.
        return ["env", "-u", "LD_PRELOAD", self._program, "-db", "-q", "-f", self.folder / "haproxy.cfg"]
