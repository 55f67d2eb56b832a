# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Two hosts joined by a wire, in network namespaces of their own, and faults of the wire. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import pytest

from tests.support.peers import peer
from tests.support.processes import ran
from tests.support.stack import Stack, program

NEAR_ADDRESS: Final = "10.213.7.1"
FAR_ADDRESS: Final = "10.213.7.2"
NAME: Final = "collector.test"
"""The near host's name, which only the far host's hosts file contains."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Two namespaces; the near one is the collector's, the far one the agent's."""

    near: str
    far: str

    def near_command(self, *command: str) -> list[str]:
        """Return a command line that runs on the near host."""
        return ["ip", "netns", "exec", self.near, *command]

    def far_command(self, *command: str) -> list[str]:
        """Return a command line that runs on the far host."""
        return ["ip", "netns", "exec", self.far, *command]

    def lose(self, probability: float) -> None:
        """Drop that share of the packets that arrive, at both ends."""
        for name in (self.near, self.far):
            _must(
                "ip", "netns", "exec", name, str(peer("iptables")), "-A", "INPUT", "-i", "wire", "-m", "statistic",
                "--mode", "random", "--probability", str(probability), "-j", "DROP",
            )  # fmt: skip

    def narrow(self, kilobits_per_second: int) -> None:
        """Limit the rate in both directions."""
        for name in (self.near, self.far):
            rate = f"{kilobits_per_second}kbit"
            _must(
                "ip", "netns", "exec", name, "tc", "qdisc", "replace", "dev", "wire", "root", "tbf", "rate", rate,
                "burst", "4kb", "latency", "400ms",
            )  # fmt: skip

    def shorten(self, bytes_per_packet: int) -> None:
        """Set the maximum transmission unit at both ends."""
        for name in (self.near, self.far):
            _must("ip", "netns", "exec", name, "ip", "link", "set", "wire", "mtu", str(bytes_per_packet))

    def forget_name(self) -> None:
        """Make the collector's name unknown to the far host: no hosts entry, no DNS."""
        _hosts_file(self.far).write_text("127.0.0.1 localhost\n", encoding="ascii")

    def add_far_address(self, address: str) -> None:
        """Give the far host one more address, once."""
        _must("ip", "netns", "exec", self.far, "ip", "address", "replace", f"{address}/24", "dev", "wire")

    def mend(self) -> None:
        """Undo all faults."""
        for name in (self.near, self.far):
            _must("ip", "netns", "exec", name, str(peer("iptables")), "-F", "INPUT")
            subprocess.run(
                ["ip", "netns", "exec", name, "tc", "qdisc", "del", "dev", "wire", "root"],
                capture_output=True,
                check=False,
            )
        self.shorten(1_500)
        _name_near_host(self.far)


@contextmanager
def wire() -> Iterator[Wire]:
    """Yield the two hosts, and delete their namespaces afterwards. Skips without root."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    peer("ip")
    made = Wire(f"veilleuse-near-{os.getpid()}", f"veilleuse-far-{os.getpid()}")
    try:
        for name in (made.near, made.far):
            _must("ip", "netns", "add", name)
            _hosts_file(name).parent.mkdir(parents=True, exist_ok=True)
            _hosts_file(name).write_text("127.0.0.1 localhost\n", encoding="ascii")
            _hosts_file(name).with_name("resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="ascii")
        _must(
            "ip",
            "link",
            "add",
            "wire",
            "netns",
            made.near,
            "type",
            "veth",
            "peer",
            "name",
            "wire",
            "netns",
            made.far,
        )
        for name, address in ((made.near, NEAR_ADDRESS), (made.far, FAR_ADDRESS)):
            inside = ("ip", "netns", "exec", name, "ip")
            _must(*inside, "address", "add", f"{address}/24", "dev", "wire")
            _must(*inside, "link", "set", "wire", "up")
            _must(*inside, "link", "set", "lo", "up")
        _name_near_host(made.far)
        yield made
    finally:
        for name in (made.near, made.far):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(_hosts_file(name).parent, ignore_errors=True)


def _hosts_file(namespace: str) -> Path:
    """Return the file that `ip netns exec` mounts over /etc/hosts."""
    return Path("/etc/netns") / namespace / "hosts"


def _name_near_host(namespace: str) -> None:
    _hosts_file(namespace).write_text(f"127.0.0.1 localhost\n{NEAR_ADDRESS} {NAME}\n", encoding="ascii")


def _must(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


class FarStack(Stack):
    """A collector on the near host, an agent on the far one."""

    def __init__(self, folder: Path, between: Wire, **settings: str) -> None:
        """The usual ports are free in a namespace of its own. `settings`: further environment variables."""
        names = {"GRPC__ADDRESS": 8641, "GRPC__ENROLMENT_ADDRESS": 8642}
        listen = {f"VEILLEUSE__{name}": f"{NEAR_ADDRESS}:{port}" for name, port in names.items()}
        told = {
            "VEILLEUSE__GRPC__ADVERTISED_ADDRESS": f"{NAME}:8641",
            "VEILLEUSE__GRPC__ADVERTISED_ENROLMENT_ADDRESS": f"{NAME}:8642",
            "VEILLEUSE__PKI__SERVER_NAMES": NAME,
            "VEILLEUSE_AGENT__MEASURE__POPULATION": "server",
            "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
        }
        super().__init__(folder, listen | told | settings)
        self._between = between

    def far(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the agent that ends by itself."""
        return ran(
            self._between.far_command(program(command[0]), *command[1:]),
            env=self.environment,
            check=True,
            timeout=60,
        )

    def serve(self) -> None:
        """Start the collector on the near host."""
        self.must("veilleuse", "init")
        self._start("serve", self._between.near_command(program("veilleuse"), "serve"))
        self.wait_for(lambda: "collector serves" in self.log("serve"), "the collector serves")

    def run_agent(self) -> psutil.Process:
        """Start the agent's service on the far host."""
        return psutil.Process(
            self._start("agent", self._between.far_command(program("veilleuse-agent"), "run")).pid
        )

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process
