# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A host is lost between the publication of a month and the next backup, and restored: real commands.

The reader keeps what was published before and after. Between the two an officer had one machine forgotten.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, Self

from tests.support import clock
from tests.support.filled import Filled
from tests.support.rolled import roll, workstation_days
from tests.support.stack import Stack, get
from tests.support.waiting import until
from veilleuse.collector.model.records import AgentId
from veilleuse.wire.vocabulary import DeviceClass, Population

MACHINES: Final = 13
SECONDS: Final = 120
"""Patience with the collector's first publication."""
Answer = dict[str, Any]


class LostHost:
    """A collector with a month of 13 PCs to publish, its backup from before, its register on another disk."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder, {"VEILLEUSE__PKI__REGISTER_FILE": str(folder / "disk" / "register.jsonl")})
        self.register = folder / "disk" / "register.jsonl"
        self.publications = folder / "disk" / "register.jsonl.publications"
        self.backup = folder / "before.backup"
        today = clock.today()
        self.end = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
        self.first = (self.end - timedelta(days=1)).replace(day=1)
        self.register.parent.mkdir()
        self.stack.must("veilleuse", "init")
        self._fill(today)
        assert self.stack.run("veilleuse", "backup", str(self.backup)).returncode == 3
        self.process: subprocess.Popen[bytes] | None = None
        self.token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.__exit__()

    def _fill(self, today: date) -> None:
        with Filled(self.stack.data) as filled:
            hosts = [
                filled.add_host(Population.WORKSTATION, DeviceClass.TOWER, entity="A", enrolled_on=self.first)
                for _ in range(MACHINES)
            ]
            for number, host in enumerate(hosts):
                workstation_days(filled, host, self.first, self.end, watts=40 + number)
            filled.derive()
            roll(filled, today)
            one = filled.store.registry.host(hosts[-1])
            assert one is not None
            self.agent_id: AgentId = one.agent_id

    def start(self) -> None:
        """Start the collector; create the account of the reader where there is none."""
        self.process = self.stack.start_collector()
        if not json.loads(self.stack.must("veilleuse", "account", "list", "--json")):
            file = self.stack.folder / f"token{len(self.token)}"
            self.stack.must("veilleuse", "account", "create", "reader", "--output", str(file))
            self.token = file.read_text().strip()

    def published(self) -> list[str]:
        """Return the kinds that are published of the month."""
        listed = json.loads(self.stack.must("veilleuse", "published", "list", "--json"))
        return [one["kind"] for one in listed if one["period_from"] == self.first.isoformat()]

    def wait_until_published(self) -> None:
        """Wait until the whole month is published."""
        until(lambda: self.stack.published("fleet", self.first), "the month is published", SECONDS, every=0.1)
        assert "fleet" in self.published()

    def rows(self) -> list[Answer]:
        """Return the rows that the reader gets of the month, of what was observed."""
        query = f"from={self.first}&to={self.end}&group_by=entity&basis=observed"
        request = urllib.request.Request(
            f"{self.stack.url}api/v1/energy?{query}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: list[Answer] = json.loads(answer.read())["rows"]
        return found

    def page(self) -> str:
        """Return the first page, in English."""
        return get(f"{self.stack.url}?lang=en")

    def forget_one(self) -> None:
        """Have one machine forgotten, as its user asked."""
        self.stack.must("veilleuse", "hosts", "forget", self.agent_id.hex(), "--why", "asked", "--yes")

    def lose(self) -> None:
        """Kill the collector, and lose its data directory."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.stack.data)

    def restore(self, code: int = 0) -> Answer:
        """Restore the backup; return what the command says."""
        done = self.stack.run("veilleuse", "restore", str(self.backup), "--json")
        assert done.returncode == code, done.stdout + done.stderr
        told: Answer = json.loads(done.stdout)
        return told

    def restore_again(self) -> Answer:
        """Stop the collector, and restore over its data."""
        assert self.process is not None
        self.stack.stop(self.process)
        return self.restore()

    def doctor(self) -> str:
        """Return what `veilleuse doctor` says of months."""
        findings = json.loads(self.stack.run("veilleuse", "doctor", "--json").stdout)
        return " ".join(one["text"] for one in findings if one["check"] == "months")


def energy_of_one(before: list[Answer], after: list[Answer]) -> str:
    """Return what the two answers tell of the machine that only the first has, in words."""
    (n, energy), (m, rest) = ((one["n"], one["energy_millijoules"]) for (one,) in (before, after))
    if n == m:
        return "0 machines by subtraction" if energy == rest else "two contents of one month"
    return f"{(energy - rest) / 3.6e9:.1f} kWh of {n - m} machine by subtraction"


def measure(folder: Path) -> str:
    """Publish, forget one, lose the host, restore with the register; return what the reader subtracts."""
    with LostHost(folder) as host:
        host.start()
        host.wait_until_published()
        before = host.rows()
        host.forget_one()
        host.lose()
        host.restore()
        host.start()
        host.wait_until_published()
        return energy_of_one(before, host.rows())
