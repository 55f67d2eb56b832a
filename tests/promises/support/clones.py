# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A room of machines made from one image, each with its own network, machine-id and hardware. Needs root.

The programs are the installed ones. A process becomes a machine by a network namespace on one bridge, a mount
namespace with another /etc/machine-id, and a sysfs tree by `paths.sysfs`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.peers import peer
from tests.support.processes import ran
from tests.support.stack import Environment, Stack, program

NEAR: Final = "10.214.0.1"
"""The collector's address on the bridge."""
PORTS: Final = (18_641, 18_642)
"""Free ports: the collector has a network namespace of its own."""


class Machine:
    """One machine of the room."""

    def __init__(self, room: Room, number: int) -> None:
        """`number` 0 is the template, of 5 W; other machines draw 100 W + their number."""
        self.namespace = f"{room.name}-{number}"
        self.folder = room.folder / f"machine-{number}"
        self.state = self.folder / "state"
        self.watts = 5 if number == 0 else 100 + number
        self.environment: Environment = room.stack.environment | {
            "VEILLEUSE_AGENT__PATHS__STATE": str(self.state),
            "VEILLEUSE_AGENT__PATHS__SYSFS": str(self.folder / "sys"),
            "VEILLEUSE_AGENT__MEASURE__SOURCES": "fake",
            "VEILLEUSE_AGENT__MEASURE__FAKE_WATTS": str(self.watts),
        }
        self._stack = room.stack
        self._make_hardware(number)

    def command(self, *words: str) -> list[str]:
        """Return a command line that runs in this machine."""
        inside = f'mount --bind {self.folder}/machine-id /etc/machine-id && exec "$@"'
        return ["ip", "netns", "exec", self.namespace, "sh", "-c", inside, "sh", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the agent that ends by itself."""
        return ran(self.command(program("veilleuse-agent"), *words), env=self.environment, timeout=60)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command of the agent; its log is `<folder>/log`."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                self.command(program("veilleuse-agent"), *words),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._stack.processes.append(process)
        return process

    def agent_id(self) -> str:
        """Return the agent id, hexadecimal; empty before enrolment."""
        enrolled = (self.state / "id/certificate.pem").exists()
        return (self.state / "id/agent_id").read_text().strip() if enrolled else ""

    def _make_hardware(self, number: int) -> None:
        interface, dmi = self.folder / "sys/class/net/eth0", self.folder / "sys/class/dmi/id"
        (interface / "device").mkdir(parents=True)
        dmi.mkdir(parents=True)
        for path, text in (
            (self.folder / "machine-id", f"{number + 1:032x}"),
            (interface / "ifindex", "2"),
            (interface / "addr_assign_type", "0"),
            (interface / "address", f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"),
            (dmi / "product_uuid", f"4c4c4544-0042-3510-8052-{number + 1:012x}"),
            (dmi / "board_serial", f"BOARD{number + 1:05d}"),
        ):
            path.write_text(text + "\n")


class Room:
    """The collector, the template and its clones on one bridge."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack = stack
        self.name = name
        self.folder = stack.folder
        self.template = Machine(self, 0)
        self.clones: list[Machine] = []
        self._add_to_bridge(self.template, 0)

    def start_collector(self) -> None:
        """Start a collector on the bridge. Its data directory is simulated, so it accepts the fake meter."""
        self.stack.must("veilleuse", "init", "--simulated")
        inside = ["ip", "netns", "exec", f"{self.name}-near", program("veilleuse"), "serve"]
        with (self.folder / "veilleuse.log").open("ab") as log:
            process = subprocess.Popen(
                inside,
                env=self.stack.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.stack.processes.append(process)
        self.stack.wait_for(
            lambda: "web ready" in self.stack.log("veilleuse"), "the collector serves", process=process
        )

    def join_file(self, uses: int, *words: str) -> Path:
        """Make a join file for the whole room. `words`: more options of `veilleuse token create`."""
        path = self.folder / "join"
        path.unlink(missing_ok=True)
        place = ("--entity", "DSI", "--site", "test", "--population", "server")
        made = ("--uses", str(uses), "--output", str(path))
        self.stack.must("veilleuse", "token", "create", *place, *made, *words)
        return path

    def image(self, count: int) -> list[Machine]:
        """Add `count` clones with a copy of the template's state as it is now; return all clones."""
        for _ in range(count):
            number = len(self.clones) + 1
            clone = Machine(self, number)
            shutil.copytree(self.template.state, clone.state)
            self._add_to_bridge(clone, number)
            self.clones.append(clone)
        return self.clones

    def hosts(self) -> list[dict[str, Any]]:
        """Return the machines that the operator sees."""
        listed: Any = json.loads(self.stack.must("veilleuse", "hosts", "list", "--json"))
        return list(listed if isinstance(listed, list) else listed["hosts"])

    def _add_to_bridge(self, machine: Machine, number: int) -> None:
        near = f"{self.name}-near"
        _must("ip", "netns", "add", machine.namespace)
        _must(
            "ip", "link", "add", f"port{number}", "netns", near, "type", "veth",
            "peer", "name", "eth0", "netns", machine.namespace,
        )  # fmt: skip
        _must("ip", "-n", near, "link", "set", f"port{number}", "master", "bridge", "up")
        address = f"10.214.{1 + number // 200}.{1 + number % 200}/16"
        _must("ip", "-n", machine.namespace, "address", "add", address, "dev", "eth0")
        for link in ("eth0", "lo"):
            _must("ip", "-n", machine.namespace, "link", "set", link, "up")


@contextmanager
def room(folder: Path, settings: dict[str, str] | None = None) -> Iterator[Room]:
    """Yield a room, deleted afterwards. `settings`: more environment for both sides. Skips without root."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces")
    peer("ip")
    name = f"veilleuse-{os.getpid()}"
    addresses = {
        "VEILLEUSE__GRPC__ADDRESS": f"{NEAR}:{PORTS[0]}",
        "VEILLEUSE__GRPC__ENROLMENT_ADDRESS": f"{NEAR}:{PORTS[1]}",
        "VEILLEUSE__PKI__SERVER_NAMES": NEAR,
    }
    try:
        _must("ip", "netns", "add", f"{name}-near")
        _must("ip", "-n", f"{name}-near", "link", "add", "bridge", "type", "bridge")
        _must("ip", "-n", f"{name}-near", "address", "add", f"{NEAR}/16", "dev", "bridge")
        for link in ("bridge", "lo"):
            _must("ip", "-n", f"{name}-near", "link", "set", link, "up")
        with Stack(folder, addresses | (settings or {})) as stack:
            yield Room(stack, name)
    finally:
        for line in _must("ip", "netns", "list").splitlines():
            if line.split()[0].startswith(f"{name}-"):
                subprocess.run(["ip", "netns", "del", line.split()[0]], capture_output=True, check=False)


def _must(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
