# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S19: no secret is in logs, `ps`, the environment, the output of commands, or a core dump."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.architecture.tree import ROOT
from tests.promises.support.leaking import Said, leaks_in
from tests.support.proxies import Squid
from tests.support.stack import Stack
from tests.support.waiting import has_ended, until

PROXY_PASSWORD = "CANARY-proxy-0123456789abcdef"
METRICS_TOKEN = "CANARY-metrics-token-0123456789abcdef"
DEBUG = {
    "VEILLEUSE__LOG__LEVEL": "debug",
    "VEILLEUSE_AGENT__LOG__LEVEL": "debug",
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
}


def secrets_in(*folders: Path) -> dict[str, str]:
    """Return file → a line of its private key."""
    found: dict[str, str] = {}
    for file in (one for folder in folders for one in folder.rglob("*") if one.is_file()):
        text = file.read_bytes().decode("ascii", errors="replace")
        for body in re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n([^-]+)", text):
            found[str(file)] = body.splitlines()[1][:40]
    return found


def processes_of(stack: Stack) -> list[psutil.Process]:
    """Return our processes and their children."""
    roots = [psutil.Process(one.pid) for one in stack.processes if one.poll() is None]
    every = [each for root in roots for each in (root, *root.children(recursive=True))]
    return [each for each in every if not has_ended(each)]  # a sender may have just ended


def canaries_of(folder: Path, join: Path) -> dict[str, str]:
    """Return the secrets that are known before the service starts."""
    content = dict(json.loads(join.read_text()))
    return {
        "token": content["token"],
        "fleet key": content["fleet_key"],
        "metrics token": METRICS_TOKEN,
        "proxy password": PROXY_PASSWORD,
        "proxy authorization": base64.b64encode(f"veilleuse:{PROXY_PASSWORD}".encode()).decode(),
        "backup key": (folder / "backup.key").read_text().strip().splitlines()[-1],
    }


@contextmanager
def proxy_of(stack: Stack) -> Iterator[Squid]:
    """Yield a proxy that asks the agent for credentials, which are in a file."""
    addresses = [stack.environment[f"VEILLEUSE__GRPC__{name}"] for name in ("ADDRESS", "ENROLMENT_ADDRESS")]
    ports = [int(address.rpartition(":")[2]) for address in addresses]
    file = stack.folder / "proxy"
    file.touch(mode=0o600)
    file.write_text(f"veilleuse:{PROXY_PASSWORD}")
    with Squid(*ports, users={"veilleuse": PROXY_PASSWORD}) as proxy:
        stack.environment["VEILLEUSE_AGENT__COLLECTOR__PROXY"] = f"http://{proxy.address}"
        stack.environment["VEILLEUSE_AGENT__COLLECTOR__PROXY_CREDENTIALS_FILE"] = str(file)
        yield proxy


def enrol_badly_then_well(said: Said, folder: Path, join: Path) -> None:
    """Try a damaged join file, another CA than the pinned one, a proxy that is away, a password in a setting
    and a used token; enrol once correctly."""
    (folder / "spoilt").write_text(join.read_text()[:-40])
    pinned = {"VEILLEUSE_AGENT__COLLECTOR__CA_SHA256": "ab" * 32}
    elsewhere = {"VEILLEUSE_AGENT__PATHS__STATE": str(folder / "other")}
    assert said.run("veilleuse-agent", "enrol", str(folder / "spoilt")) == 1
    assert said.run("veilleuse-agent", "enrol", str(join), **pinned) == 1
    closed = {"VEILLEUSE_AGENT__COLLECTOR__PROXY": "http://127.0.0.1:1"}
    assert said.run("veilleuse-agent", "enrol", str(join), **closed) == 1
    secret = {"VEILLEUSE_AGENT__COLLECTOR__PROXY": f"http://veilleuse:{PROXY_PASSWORD}@127.0.0.1:3128"}
    assert said.run("veilleuse-agent", "enrol", str(join), **secret) == 2
    assert said.run("veilleuse-agent", "enrol", "--keep", str(join)) == 0
    assert said.run("veilleuse-agent", "enrol", str(join), **elsewhere) == 1


def shown_by(running: list[psutil.Process]) -> list[tuple[str, str]]:
    """Return the processes' command lines and environments, as `ps` and /proc/*/environ show them."""
    shown = [(f"ps {one.pid}", " ".join(one.cmdline())) for one in running]
    return shown + [(f"environ {one.pid}", "\0".join(one.environ().values())) for one in running]


def looked_at(stack: Stack) -> tuple[list[psutil.Process], list[tuple[str, str]], set[str]]:
    """Return our processes, their output of `shown_by` and core limits; try again when a process ends."""
    for _ in range(20):
        with suppress(psutil.Error, OSError):
            running = processes_of(stack)
            return running, shown_by(running), {core_limit(one) for one in running}
    raise AssertionError("processes come and go without end")


def core_limit(process: psutil.Process) -> str:
    """Return a process's soft limit of core dumps, bytes."""
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    return limits.split("Max core file size")[1].split()[0]


@pytest.mark.promise("S19")
def test_no_secret_is_ever_said(tmp_path, figure):
    """No canary appears with log level debug in enrolment, refusals, contacts, diagnosis and backups."""
    (tmp_path / "metrics-token").touch(mode=0o600)
    (tmp_path / "metrics-token").write_text(METRICS_TOKEN)
    settings = DEBUG | {
        "VEILLEUSE__HTTP__METRICS_TOKEN_FILE": str(tmp_path / "metrics-token"),
        "VEILLEUSE__BACKUP__KEY_FILE": str(tmp_path / "backup.key"),
    }
    with Stack(tmp_path, settings) as stack, proxy_of(stack) as proxy:
        said, join = Said(stack), tmp_path / "join"
        said.run("veilleuse", "backup", "--new-key", str(tmp_path / "backup.key"))
        assert said.run("veilleuse", "init") == 0
        stack.start("veilleuse", "serve")
        stack.wait_for(lambda: "web ready" in stack.log("veilleuse"), "the collector serves")
        where = ("--entity", "DSI", "--site", "test", "--population", "server")
        assert said.run("veilleuse", "token", "create", *where, "--output", str(join)) == 0
        canaries = canaries_of(tmp_path, join)
        enrol_badly_then_well(said, tmp_path, join)
        agent = stack.start("veilleuse-agent", "run")
        stack.wait_for(lambda: "contact done" in stack.log("veilleuse-agent"), "a contact", process=agent)
        running, shown, cores = looked_at(stack)
        for command in ("doctor --json", "doctor", "show", "config", "send", "prepare-image"):
            said.run("veilleuse-agent", *command.split())
        sealed = f"backup {tmp_path / 'sealed'}"
        for command in ("doctor --json", "hosts list --json", "token list", sealed, "restore /dev/null"):
            said.run("veilleuse", *command.split())
        canaries |= secrets_in(stack.data, stack.state)
        stack.stop(agent)
        proxy.wait_for(f"CONNECT {stack.environment['VEILLEUSE__GRPC__ADDRESS']} 200 veilleuse")
        everything = [
            *said.texts,
            *shown,
            *((name, stack.log(name)) for name in ("veilleuse", "veilleuse-agent")),
        ]
    leaks = leaks_in(everything, canaries)
    figure(
        f"{len(leaks)} of {len(canaries)} canaries found in {len(everything)} places, {len(running)} processes with a core limit "
        f"of {' or '.join(sorted(cores))}"
    )
    assert len(canaries) >= 8
    assert leaks == []
    assert cores == {"0"}


@pytest.mark.promise("S19")
def test_units_leave_no_core_dump(figure):
    """Both units set LimitCORE=0: a process has no core dump even before our first line."""
    units = sorted((ROOT / "deploy/systemd").glob("veilleuse-*.service"))
    without = [unit.name for unit in units if "\nLimitCORE=0\n" not in unit.read_text()]
    figure(f"{len(units) - len(without)} of {len(units)} units with LimitCORE=0")
    assert without == []


def test_the_search_finds_what_is_there(tmp_path):
    """The search finds a canary in a broken line of a table, and a line of a private key."""
    process = subprocess.Popen(["sleep", "30"], env={"X": "CANARY-9"})
    try:
        until(
            lambda: "CANARY-9" in "\0".join(psutil.Process(process.pid).environ().values())
        )  # the child runs exec first
    finally:
        process.kill()
        process.wait()
    assert leaks_in([("table", "│ CANA │\n│ RY-9 │")], {"it": "CANARY-9"}) == ["it in table"]
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\nBBBB\n-----END PRIVATE KEY-----\n")
    assert list(secrets_in(tmp_path).values()) == ["BBBB"]
