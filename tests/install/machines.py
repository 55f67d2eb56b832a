# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Machines with a running systemd, joined by a cable: systemd-nspawn on roots made by mmdebstrap. Needs root.

All processes end with the test process, also when that is killed: each asks the kernel for it. What stays
then is one folder, which the next run deletes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from tests.support import clock
from tests.support.peers import peer
from tests.support.processes import ran
from tests.support.waiting import until

PLACE: Final = Path.home() / ".cache" / "veilleuse-tests"
"""Roots take half a minute to make and 0.3 GB; they are kept between runs, for all checkouts of a user."""
_ROOT_SECONDS: Final = 590
KEPT_DAYS: Final = 7
"""A root is made again after so many days, so that it has the distribution's present packages."""
_PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "udev", "init-system-helpers", "debconf", "ucf", "iproute2"),
    *("python3", "ca-certificates", "tzdata"),
)
_ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_REBOOTED: Final = 133
"""Exit status of systemd-nspawn when its machine asked for a reboot (systemd-nspawn(1), "Exit status")."""
_FIRMWARE_SECONDS: Final = 2
_GROUPS: Final = "veilleuse-test-"
_IN_OWN_CGROUP: Final = """
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  [ -e $hierarchy/cgroup.procs ] || continue
  mkdir -p $hierarchy/"$0" && echo $$ >$hierarchy/"$0"/cgroup.procs
done
exec "$@"
"""
"""Two machines in one control group would share the group `payload` that systemd-nspawn makes below it."""
ALONE: Final = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
"""Runs a command in namespaces of processes and mounts, which end with us and leave neither.

A killed systemd-nspawn would leave its machine running, a killed mmdebstrap its mounts.
"""


@dataclass(frozen=True, slots=True)
class System:
    """A distribution that packages are installed on."""

    name: str
    suite: str
    components: str = "main"


DEBIAN_13: Final = System("Debian 13", "trixie")
DEBIAN_12: Final = System("Debian 12", "bookworm")
UBUNTU_24: Final = System("Ubuntu 24.04", "noble", "main,universe")


def root_of(system: System, *more: str) -> Path:
    """Return the folder of a system's root with these further packages; it is made if missing or old."""
    packages = ",".join(sorted({*_PACKAGES, *more}))
    root = PLACE / "roots" / f"{system.suite}-{hashlib.sha256(packages.encode()).hexdigest()[:8]}"
    options = (
        *("--quiet", "--mode=root", "--variant=minbase", "--format=directory"),
        *(f"--include={packages}", f"--components={system.components}"),
    )
    with one_at_a_time("roots"):
        remove_old(root.parent)
        if not root.exists():
            draft = root.with_suffix(f".{os.getpid()}")
            done = ran([*ALONE, peer("mmdebstrap"), *options, system.suite, draft], timeout=_ROOT_SECONDS)
            assert done.returncode == 0, done.stderr
            os.utime(draft)
            draft.rename(root)
    return root


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Wait for other runs, also of other checkouts: systemd-nspawn ends without a word on a root in use."""
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_old(folder: Path) -> None:
    """Delete what is kept there for longer than KEPT_DAYS, and the drafts of killed runs, NAME.PROCESS."""
    folder.mkdir(parents=True, exist_ok=True)
    for kept in (path for path in folder.iterdir() if path.is_dir()):
        if process := kept.suffix[1:]:
            is_left = not Path("/proc", process).exists()
        else:
            is_left = clock.unix_seconds() - kept.stat().st_mtime > KEPT_DAYS * 86_400
        if is_left:
            shutil.rmtree(kept)


class Network:
    """A network namespace with one end of a cable; it lives as long as a file descriptor of ours."""

    def __init__(self, address: str) -> None:
        """`address`: IPv4 address that the end of the cable gets."""
        self.address = address
        with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as process:
            until(lambda: _networks("self") != _networks(str(process.pid)))
            self.descriptor = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)

    @property
    def path(self) -> str:
        """Return a path of the namespace, for children that inherit the descriptor."""
        return f"/proc/self/fd/{self.descriptor}"

    def inside(self, *command: str | Path) -> list[str | Path]:
        """Return a command line that runs in the namespace, with our files; it inherits the descriptor."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def join(self, other: Network) -> None:
        """Lay the cable."""
        ends = [f"name cable netns {one.path}" for one in (self, other)]
        both = (self.descriptor, other.descriptor)
        _must(["ip", "link", "add", *f"{ends[0]} type veth peer {ends[1]}".split()], pass_fds=both)
        for one in (self, other):
            lines = f"address add {one.address}/24 dev cable\nlink set cable up\nlink set lo up\n"
            _must(one.inside("ip", "-batch", "-"), input=lines, pass_fds=both)

    def close(self) -> None:
        """End the namespace once no process uses it."""
        os.close(self.descriptor)


class Machine:
    """One machine. It keeps its network, name and files over a reboot."""

    def __init__(self, name: str, system: System, root: Path, network: Network) -> None:
        """`root`: the machine's own copy of a root."""
        self.name, self.system, self.root, self.network = name, system, root, network
        self._process: subprocess.Popen[bytes] | None = None
        self._group = f"{_GROUPS}{os.getpid()}-{name}"
        (root / "etc/hostname").write_text(f"{name}\n", encoding="ascii")
        (root / "etc/dpkg/dpkg.cfg.d/quick").write_text("force-unsafe-io\n", encoding="ascii")

    def boot(self) -> None:
        """Start the machine; return when its systemd has started all units. Fails when one of them failed."""
        options = (
            f"--directory={self.root}",
            f"--machine={self.name}",
            f"--network-namespace-path={self.network.path}",
            *("--register=no", "--keep-unit", "--boot", "--console=read-only"),
        )
        # A machine's clocks begin at its boot, so that it knows when that was.
        now = int(time.clock_gettime(time.CLOCK_BOOTTIME)), int(time.monotonic())
        alone = (*ALONE, "--time", f"--boottime=-{now[0]}", f"--monotonic=-{now[1]}")
        own_group = ("sh", "-c", _IN_OWN_CGROUP, self._group)
        command = (*alone, *own_group, str(peer("systemd-nspawn")), *options)
        with self.console.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self.network.descriptor,),
            )
        until(self._answers, f"{self.name} does not boot: {self.console}")
        state = self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
        failed = self.run("systemctl", "--failed", "--no-pager", "--plain", "--no-legend").stdout
        assert state == "running", f"{self.name} is {state}\n{failed}"

    @property
    def console(self) -> Path:
        """Return the file of the machine's console."""
        return self.root.with_suffix(".console")

    def inside(self, *command: str, user: str = "root") -> list[str]:
        """Return a command line that runs in the machine."""
        as_user = [] if user == "root" else ["runuser", "-u", user, "--"]
        return ["nsenter", f"--target={self._leader()}", "--all", "--wdns=/", "--", *as_user, *command]

    def run(
        self,
        *command: str,
        user: str = "root",
        check: bool = True,
        stdin: str = "",
        seconds: float = 120,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine to its end; fails if `check` and the exit code is not 0."""
        done = ran(
            self.inside(*command, user=user), input=stdin, timeout=seconds, env=_ENVIRONMENT | environment
        )
        assert not check or done.returncode == 0, (
            f"{self.name}: {' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def out(self, *command: str, user: str = "root") -> str:
        """Return what a command in the machine writes to its standard output, without spaces at its end."""
        return self.run(*command, user=user).stdout.rstrip()

    def path(self, inside: str) -> Path:
        """Return where a file of the machine is for us. Symbolic links are not followed in the machine."""
        return self.root / inside.lstrip("/")

    def main_pid(self, unit: str) -> int:
        """Return the main process of a unit, as the machine numbers it; 0 when it does not run."""
        return int(self.out("systemctl", "show", "--value", "--property=MainPID", unit))

    def property_of(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.out("systemctl", "show", "--value", f"--property={name}", unit)

    def journal(self, unit: str, lines: int = 40) -> str:
        """Return the last lines of a unit's journal."""
        return self.run("journalctl", "--no-pager", f"--lines={lines}", f"--unit={unit}", check=False).stdout

    def reboot(self) -> None:
        """Reboot as an administrator does, in order; between, the firmware takes its time."""
        self.run("systemctl", "reboot", check=False)  # nsenter may be killed with the machine
        assert self._process is not None
        assert self._process.wait(90) == _REBOOTED, self.console.read_text(errors="replace")[-2_000:]
        time.sleep(_FIRMWARE_SECONDS)
        self.boot()

    def close(self) -> None:
        """End the machine as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            until(lambda: _remove_groups(self._group), f"{self.name} still has processes")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (
            str(self._process.returncode) + self.console.read_text(errors="replace")[-2_000:]
        )
        done = self.run("systemctl", "is-system-running", check=False) if self._leader() else None
        return done is not None and done.stdout.strip() in ("starting", "running", "degraded")

    def _leader(self) -> int:
        """Return the process that is the machine's first one; 0 when there is none yet."""
        assert self._process is not None
        pid = self._process.pid  # unshare; its child is systemd-nspawn, and the child of that the machine's
        for _ in range(2):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            if not children:
                return 0
            pid = int(children[-1])
        return pid


@contextmanager
def two_machines(
    system: System, *more: str, names: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[Machine, Machine]]:
    """Yield a collector's and an agent's machine, booted, and joined by a cable.

    `more`: further packages on both. `names`: further names of each, collector or agent → names.
    """
    root = root_of(system, *more)
    with _folder() as folder, ExitStack() as open_things:
        made = []
        for number, name in enumerate(("collector", "agent"), start=1):
            network = Network(f"10.215.0.{number}")
            open_things.callback(network.close)
            place = folder / name
            _must(["cp", "--archive", "--reflink=auto", root, place])
            machine = Machine(name, system, place, network)
            open_things.callback(machine.close)
            made.append(machine)
        collector, agent = made
        collector.network.join(agent.network)
        lines = "".join(f"{one.network.address} {one.name}.test {names.get(one.name, '')}\n" for one in made)
        for machine in made:
            machine.path("/etc/hosts").write_text(f"127.0.0.1 localhost\n{lines}", encoding="ascii")
            machine.boot()
        yield collector, agent


@contextmanager
def _folder() -> Iterator[Path]:
    """Yield a folder for the machines' files; it is deleted afterwards, and those of killed runs before."""
    machines = PLACE / "machines"
    machines.mkdir(parents=True, exist_ok=True)
    for left in machines.iterdir():
        if not Path(f"/proc/{left.name}").exists():
            _remove_groups(f"{_GROUPS}{left.name}-*")
            shutil.rmtree(left, ignore_errors=True)
    folder = machines / str(os.getpid())
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_groups(pattern: str) -> bool:
    """Remove the control groups of machines that have ended; returns whether none is left."""
    tops = [top for depth in ("", "*/") for top in Path("/sys/fs/cgroup").glob(f"{depth}{pattern}")]
    for top in tops:
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):  # it still has processes
                Path(folder).rmdir()
    return not any(top.exists() for top in tops)


def _networks(process: str) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


def _must(command: Sequence[str | Path], **options: Any) -> None:
    done = ran(command, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"


def require_root() -> None:
    """Skip the test without root."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for systemd-nspawn")
