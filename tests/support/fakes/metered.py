# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Simulate a machine with a RAPL counter in a tree of files, measured by a resident on a settable clock."""

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
    """/sys with one package counter, as the kernel shows it; `microjoules` keeps its true value."""

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
        """The path of the counter's file `energy_uj`."""
        return self.folder / "energy_uj"

    def spend(self, microjoules: int) -> None:
        """Advance the counter, which wraps at its range; a stuck counter does not advance."""
        if not self.stuck:
            self.microjoules = (self.microjoules + microjoules) % RANGE
        self.show()

    def reset(self) -> None:
        """Set the counter to 0, as when its driver is loaded again."""
        self.microjoules = 0
        self.show()

    def show(self) -> None:
        """Write the counter's file, unless its folder is missing or a folder has its name."""
        if self.counter.parent.exists() and not self.counter.is_dir():
            self.counter.write_text(f"{self.microjoules}\n")


class Metered:
    """A machine and its agent; `on` lets time pass."""

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
        """Start the service."""
        contacts = Contacts(self.state, None, 0, command=[sys.executable, "-c", "pass"])
        self.resident = Resident(self.settings, self.clock, contacts, NoServiceManager())
        self.resident.begin()

    def on(self, ticks: int, watts: int = 40, milliseconds: int = 10_000) -> None:
        """Let `ticks` ticks of `milliseconds` pass at this power; the resident does one step in each."""
        for _ in range(ticks):
            self.clock.advance(milliseconds)
            self.tree.spend(watts * milliseconds * 1_000)
            self.spent_millijoules += watts * milliseconds
            assert 0 < self.resident.milliseconds_to_next_tick() <= 1.2 * 10_000, (
                "a busy loop, or none at all"
            )
            self.resident.step()

    def bodies(self) -> list[Record | Gap]:
        """Return all closed records and gaps, and the open ones; this flushes the fold, so call it last."""
        with closing(connect(self.state / FILE_NAME)) as db:
            texts = [row[0] for row in db.execute("SELECT body FROM pending ORDER BY id")]
        return [*map(body_from_json, texts), *self.resident._fold.flush()]

    def control(self, key: ControlKey) -> str | None:
        """Return a control value of the spool, or None."""
        return self.resident._spool.control(key)


def millijoules(bodies: list[Record | Gap]) -> int:
    """Return all energy in the records, in millijoules."""
    return sum(
        energy
        for body in bodies
        if isinstance(body, Record)
        for cell in body.cells.values()
        for energy, _ in cell.energies.values()
    )


def refusals(bodies: list[Record | Gap], now_unix_milliseconds: int) -> Iterator[str]:
    """Yield the reason of each record or gap that the collector's validator refuses at this time."""
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
