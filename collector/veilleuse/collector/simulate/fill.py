# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fills a data directory with a simulated fleet by the path of all records, and returns its true energy."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from datetime import date, timedelta
from functools import partial
from typing import Any, Final

from veilleuse.collector import clock
from veilleuse.collector.app.data_directory import Collector, initialise, is_initialised, open_collector
from veilleuse.collector.errors import CollectorError, DataDirectoryError, UsageError
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.ingest.counters import Count
from veilleuse.collector.inventory import read_files
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import to_document
from veilleuse.collector.model.calibration import facts_of
from veilleuse.collector.model.months import OWN_CPU, WAIT_DAYS
from veilleuse.collector.model.records import AppendOutcome, AppendResult, HostId
from veilleuse.collector.ports.stages import Committer
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.simulate import registry
from veilleuse.collector.simulate.ahead import Event, events, generated_ahead
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder
from veilleuse.collector.simulate.generate import Generation, Sent
from veilleuse.collector.simulate.registry import agent_id_of, enrol, put_sites
from veilleuse.collector.simulate.truth import Truth
from veilleuse.collector.simulate.upkeep import Upkeep, open_upkeep, run_slices
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.limits import EPOCH_BYTES
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

PUSH_RECORDS: Final = 256
"""Records of a push, as a sender reads them from its spool: docs/architecture.md §2."""
IN_FLIGHT: Final = 48
WHO: Final = "veilleuse simulate"
Progress = Callable[[str, int, int], None]
"""(step, done, total)."""
_RECORDS_BETWEEN: Final = 8_192
_DAY_CPU_MILLISECONDS, _PUSH_CPU_MILLISECONDS = 200_000, 4
"""CPU time of the collector: of a day without calls, and of a push; measured with `make run`, rounded."""
_ANSWER_BYTES: Final = 60
_PART_BYTES: Final = 600_000
_AHEAD_MACHINE_DAYS: Final = 20_000
"""Agents × days above which a process of its own generates: it takes a second to start."""


class Pushes:
    """Pushes that wait for the writer's answer."""

    def __init__(self, writer: Committer, now_unix_milliseconds: int, queue_pushes: int) -> None:
        """Take the writer; `now_unix_milliseconds`: of the validation;
        `queue_pushes`: the writer's limit of waiting pushes.
        """
        self._writer = writer
        self._now = now_unix_milliseconds
        self._in_flight = min(IN_FLIGHT, queue_pushes)
        self._waiting: deque[Future[AppendOutcome]] = deque()
        self.records = 0
        self.own: Counter[str] = Counter()
        """What the collector would have used for these pushes."""

    def send(self, request: pb.PushRequest, host_id: HostId, machine: MachineLimits) -> None:
        """Validate and append a push. Raises CollectorError for a rejected record:
        a defect of the simulation.
        """
        checked = check_push(request, host_id, machine, self._now)
        if isinstance(checked, tuple):
            seq, reason = checked[0]
            raise CollectorError(
                f"a simulated record was refused: number {seq}, {reason.value}: this is a defect"
            )
        self._waiting.append(self._writer.append(checked))
        self.records += len(request.records)
        self.own[OWN_CPU] += _PUSH_CPU_MILLISECONDS
        if machine.population is Population.SERVER:
            self.own[f"{machine.population}_{Count.RECEIVED_BYTES}"] += request.ByteSize()
            self.own[f"{machine.population}_{Count.SENT_BYTES}"] += _ANSWER_BYTES
        while len(self._waiting) >= self._in_flight:
            _require_stored(self._waiting.popleft())

    def wait(self) -> None:
        """Wait until all pushes are durable."""
        while self._waiting:
            _require_stored(self._waiting.popleft())


def _require_stored(future: Future[AppendOutcome]) -> None:
    result = future.result().result
    if result is not AppendResult.STORED:
        raise CollectorError(f"simulated records were not stored: {result}: this is a defect")


class Stream:
    """One epoch of one host."""

    def __init__(self, pushes: Pushes, host_id: HostId, machine: MachineLimits, epoch: bytes) -> None:
        self._pushes, self._host_id, self._machine, self._epoch = pushes, host_id, machine, epoch
        self._seq, self._chain = 0, chain_start(epoch)

    def send(self, wires: Sequence[bytes]) -> None:
        """Send the records."""
        for begun in range(0, len(wires), PUSH_RECORDS):
            some = wires[begun : begun + PUSH_RECORDS]
            request = pb.PushRequest(
                epoch=self._epoch, first_seq=self._seq + 1, chain_before=self._chain, records=some
            )
            self._pushes.send(request, self._host_id, self._machine)
            for wire in some:
                self._chain = chain_next(self._chain, wire)
            self._seq += len(some)


def simulate(settings: CollectorSettings, order: SimulationOrder, progress: Progress) -> Truth:
    """Fill an empty simulated data directory, created here where there is none.
    Raises UsageError, CollectorError.
    """
    if order.end > clock.today():
        raise UsageError(
            f"--from {order.first} and --days {order.days} end on {order.end}: that is yet to come"
        )
    if not is_initialised(settings.data_dir):
        initialise(settings, simulated=True)
    with without_garbage_collection(), open_collector(settings) as collector:
        _require_empty(collector)
        return _Run(collector, order, progress).fill()


def _require_empty(collector: Collector) -> None:
    where = collector.settings.data_dir
    if not collector.simulated:
        raise DataDirectoryError(
            f"{where} is for real data, and is never both: set data_dir to a new directory, or "
            "make one with 'veilleuse init --simulated'"
        )
    if collector.issuing.commit(collector.store.registry.hosts):
        raise DataDirectoryError(f"{where} holds a fleet already: set data_dir to a new directory")


class _Run:
    """One run of a simulation."""

    def __init__(self, collector: Collector, order: SimulationOrder, progress: Progress) -> None:
        self._collector, self._order, self._progress = collector, order, progress
        self._generation = Generation(order)
        self._devices = {one.number: one for one in self._generation.fleet}
        self._streams: dict[int, Stream] = {}
        now = clock.unix_milliseconds()
        self._pushes = Pushes(collector.writer, now, collector.settings.grpc.admitted_pushes)
        self._derived = 0
        """Number of records sent when all was last derived."""

    def fill(self) -> Truth:
        """Declare, enrol, import, then send, derive and keep, part by part."""
        context, generation = self._collector.operations.context, self._generation
        put_sites(context, generation.timetables)
        self._progress("machines", 0, 1)
        hosts = enrol(context, self._order, generation.fleet, self._collector.store.identity.transaction)
        self._declare()
        self._progress("machines", 1, 1)
        self._progress("inventory", 0, 1)
        self._import_inventory()
        self._progress("inventory", 1, 1)
        if len(hosts) * self._order.days > _AHEAD_MACHINE_DAYS:
            with generated_ahead(self._order) as events_ahead:
                truth = self._take(events_ahead, hosts)
        else:
            truth = self._take(events(generation), hosts)
        self._progress("months", 0, 1)
        self._collector.rolls.drain()
        if self._order.preset.is_served:
            registry.greet(context, generation.fleet, hosts)
            registry.add_copies(context, self._order, generation.fleet, hosts)
        self._progress("months", 1, 1)
        return truth

    def _take(self, sent: Iterable[Event], hosts: Mapping[int, HostId]) -> Truth:
        """Store what is generated; return the truth."""
        total = sum(_heard_days(one, self._order.first, self._order.end) for one in self._devices.values())
        done = 0
        is_served = self._order.preset.is_served
        with open_upkeep(self._collector) if is_served else nullcontext() as upkeep:
            for event in sent:
                if isinstance(event, Truth):
                    self._derive()
                    return event
                if isinstance(event, Sent):
                    self._send(self._devices[event.number], hosts[event.number], event)
                    continue
                self._derive()
                self._note_own_use(*event)
                if upkeep is not None:
                    self._keep(upkeep, *event)
                done += sum(_heard_days(one, *event) for one in self._devices.values())
                self._progress("records", done, total)
        raise CollectorError("the simulation ended early: this is a defect")

    def _note_own_use(self, first: date, end: date) -> None:
        """Note what the collector would have used in the week [first, end), evenly over its days."""
        days, own = (end - first).days, self._pushes.own
        own[OWN_CPU] += days * _DAY_CPU_MILLISECONDS
        used = {name: value // days for name, value in own.items()}
        own.clear()
        for place in range(days):
            day = first + timedelta(days=place)
            self._collector.issuing.commit(partial(self._collector.store.note_own_use, day, used))

    def _keep(self, upkeep: Upkeep, first: date, end: date) -> None:
        """Run what the collector does once a month is complete; it was in the week [first, end)."""
        is_due = first < end.replace(day=1) + timedelta(days=WAIT_DAYS) <= end
        is_last = end == self._order.end
        if not (is_due or is_last):
            return
        is_new_year = is_due and end.month == 1 and end.year > self._order.first.year
        upkeep.run(end, fleet=is_new_year or is_last)
        if is_new_year:
            upkeep.close(end.year - 1)

    def _declare(self) -> None:
        """Declare what an operator would: shared meters, a calibration, actions."""
        perform = self._collector.operations.perform
        for room in self._generation.rooms:
            if room.poller is None:
                continue
            ids = {one.number: agent_id_of(self._order, one).hex() for one in room.on_pdu}
            found = perform(
                "meters_import", {"text": room.declaration(ids), "name": "simulated.toml", "who": WHO}
            )
            if found["refused"]:
                raise CollectorError(
                    f"simulated meters were refused: {found['refused'][0]}: this is a defect"
                )
        for model in dict.fromkeys(one.model for one in self._generation.fleet if one.model.calibrated):
            fit = facts_of(self._generation.physics.calibration(model))
            perform("calibration_put", {"fit": fit, "who": WHO})
        for kind, lines in self._order.preset.declared(self._order.first, self._order.end).items():
            words = {"kind": kind, "lines": lines, "name": "", "who": WHO, "why": "simulated"}
            perform("follow_import", words)

    def _send(self, device: SimulatedDevice, host_id: HostId, sent: Sent) -> None:
        if not device.place.is_room and self._pushes.records >= self._derived + _RECORDS_BETWEEN:
            self._derive()  # not between servers: those of a meter are derived once, after its readings
        stream = self._streams.get(device.number)
        if stream is None:
            epoch = random.Random(f"{self._order.seed}/{device.number}/epoch").randbytes(EPOCH_BYTES)
            machine = MachineLimits(device.place.population, device.model.device_class, allow_fake=False)
            stream = self._streams[device.number] = Stream(self._pushes, host_id, machine, epoch)
        stream.send(sent.wires)

    def _derive(self) -> None:
        """Derive all dirty periods while their pages are cached."""
        self._pushes.wait()
        run_slices(self._collector, self._collector.derive.run_slice)
        self._derived = self._pushes.records

    def _import_inventory(self) -> None:
        """Import the inventory as `veilleuse inventory import`: the fleet, then retirements."""
        for number, files in enumerate(registry.imports(self._order, self._generation.fleet)):
            words = InventoryMapping(sites=frozenset(place.site for place in self._order.places))
            reading = read_files(files, words, form="csv", source=registry.SOURCE)
            packed = zlib.compress(json.dumps(to_document(reading), ensure_ascii=False).encode(), 1)
            upload = random.Random(f"{self._order.seed}/upload/{number}").randbytes(16).hex()
            perform = self._collector.operations.perform
            for part in range(0, len(packed), _PART_BYTES):
                data = base64.b64encode(packed[part : part + _PART_BYTES]).decode()
                perform("inventory_part", {"upload": upload, "number": part // _PART_BYTES, "data": data})
            found: dict[str, Any] = perform("inventory_import", {"upload": upload, "who": WHO})
            if found["refused"]:
                raise CollectorError(
                    f"rows of the simulated inventory were refused: {found['refused_rows'][0]}: this "
                    "is a defect"
                )


def _heard_days(device: SimulatedDevice, first: date, end: date) -> int:
    """Return the days of [first, end) on which its agent sends."""
    if device.agent_from is None:
        return 0
    return max(0, (min(end, device.agent_until or end) - max(first, device.agent_from)).days)
