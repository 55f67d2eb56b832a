# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A machine with a RAPL counter in a tree of files, and a resident that measures it by a settable clock."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.support.fakes.measuring import RANGE, FakeClock
from veilleuse.agent.model import Gap, Record, body_from_json
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.process import NoServiceManager, Resident
from veilleuse.agent.resident.sender_child import Contacts
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.settings import AgentSettings, Measure, Paths
from veilleuse.agent.spool.database import FILE_NAME, connect
from veilleuse.collector.model.records import HostId, ValidPush
from veilleuse.collector.validate import MachineLimits as MachineKind
from veilleuse.collector.validate import check_push
from veilleuse.wire.chain import chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, Population

PROC = Path(__file__).parents[2] / "fixtures" / "sys" / "laptop" / "proc"


class RaplTree:
    """/sys with one package counter, as the kernel shows it; the truth is kept beside it."""

    def __init__(self, sysfs: Path, microjoules: int = 200_000_000_000) -> None:
        self.folder = sysfs / "class/powercap/intel-rapl/intel-rapl:0"
        self.folder.mkdir(parents=True)
        (self.folder / "name").write_text("package-0\n")
        (self.folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
        self.microjoules = microjoules
        self.stuck = False
        self.show()

    @property
    def counter(self) -> Path:
        """energy_uj."""
        return self.folder / "energy_uj"

    def spend(self, microjoules: int) -> None:
        """Advance, around the range if need be; a stuck counter does not."""
        if not self.stuck:
            self.microjoules = (self.microjoules + microjoules) % RANGE
        self.show()

    def reset(self) -> None:
        """As after a driver was loaded again."""
        self.microjoules = 0
        self.show()

    def show(self) -> None:
        """Write it where it can be written."""
        if self.counter.parent.exists() and not self.counter.is_dir():
            self.counter.write_text(f"{self.microjoules}\n")


class Metered:
    """The machine and its agent; `on` is how time passes."""

    def __init__(self, folder: Path, **measure: object) -> None:
        self.state = folder / "state"
        self.tree = RaplTree(folder / "sys")
        self.clock = FakeClock()
        chosen = {"population": "server", "period_seconds": 60, "sources": ("linux_rapl",), **measure}
        self.settings = AgentSettings(
            paths=Paths(state=self.state, sysfs=folder / "sys", procfs=PROC),
            measure=Measure(**chosen),  # type: ignore[arg-type]
        )
        self.state.mkdir()
        self.spent_millijoules = 0
        self.begin()

    def begin(self) -> None:
        """A start of the service."""
        contacts = Contacts(self.state, None, 0, command=[sys.executable, "-c", "pass"])
        self.resident = Resident(self.settings, self.clock, contacts, NoServiceManager())
        self.resident.begin()

    def on(self, ticks: int, watts: int = 40, milliseconds: int = 10_000) -> None:
        """So many ticks at that power."""
        for _ in range(ticks):
            self.clock.advance(milliseconds)
            self.tree.spend(watts * milliseconds * 1_000)
            self.spent_millijoules += watts * milliseconds
            assert 0 < self.resident.milliseconds_to_next_tick() <= 1.2 * 10_000, (
                "a busy loop, or none at all"
            )
            self.resident.step()

    def bodies(self) -> list[Record | Gap]:
        """Everything closed, and what is open as it stands; call it last."""
        with closing(connect(self.state / FILE_NAME)) as db:
            texts = [row[0] for row in db.execute("SELECT body FROM pending ORDER BY id")]
        return [*map(body_from_json, texts), *self.resident._fold.flush()]

    def control(self, key: ControlKey) -> str | None:
        """A control value."""
        return self.resident._spool.control(key)


def millijoules(bodies: list[Record | Gap]) -> int:
    """All energy in them."""
    return sum(
        energy
        for body in bodies
        if isinstance(body, Record)
        for cell in body.cells.values()
        for energy, _ in cell.energies.values()
    )


def refusals(bodies: list[Record | Gap], now_unix_milliseconds: int) -> Iterator[str]:
    """What the collector's own validator says of them, one by one, at that time."""
    machine = MachineKind(Population.SERVER, DeviceClass.SERVER, True)
    epoch = bytes(8)
    for body in bodies:
        request = pb.PushRequest(
            epoch=epoch,
            first_seq=1,
            chain_before=chain_start(epoch),
            records=[WireEncoder().encode(body.to_json())],
        )
        checked = check_push(request, HostId(1), machine, now_unix_milliseconds)
        if not isinstance(checked, ValidPush):
            yield from (f"{reason.value}: {body}" for _, reason in checked)
