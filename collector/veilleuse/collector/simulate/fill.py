# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fills a data directory with a simulated fleet by the path of all records, and returns its true energy."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, date, datetime
from typing import Any, Final

from veilleuse.collector.app.data_directory import Collector, initialise, is_initialised, open_collector
from veilleuse.collector.errors import CollectorError, DataDirectoryError, UsageError
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.inventory import read_files
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import to_document
from veilleuse.collector.model.calibration import facts_of
from veilleuse.collector.model.records import AppendOutcome, AppendResult, HostId
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.ports.stages import Committer
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.simulate import registry
from veilleuse.collector.simulate.agent_stream import Agent, Powers
from veilleuse.collector.simulate.calendars import Timetable, days, period_of
from veilleuse.collector.simulate.fleet import (
    COLLEGES,
    PLACES,
    ROOM,
    VIRTUAL,
    EntitySite,
    SimulatedDevice,
    SimulationOrder,
    devices,
)
from veilleuse.collector.simulate.physics import Physics
from veilleuse.collector.simulate.registry import agent_id_of, enrol, put_sites
from veilleuse.collector.simulate.routines import Span, routine_of
from veilleuse.collector.simulate.server_room import METERS, ServerRoom, mean_watts
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.limits import EPOCH_BYTES
from veilleuse.wire.units import MILLISECONDS_PER_SECOND, kwh_from_millijoules
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

_Key = tuple[str, str, str, str, str]
MONITOR: Final = EnergyClass.MONITOR.value
OTHER_ROOM: Final = "other_room"
"""Device class of a room's metered energy without a machine."""
PUSH_RECORDS: Final = 256
"""Records of a push, as a sender reads them from its spool: docs/architecture.md §2."""
IN_FLIGHT: Final = 8
WHO: Final = "veilleuse simulate"
Progress = Callable[[str, int, int], None]
"""(step, done, total)."""
_PERIODS_PER_JOB: Final = 1_024
"""No other task waits for the writer here."""
_RECORDS_BETWEEN: Final = 8_192
_PART_BYTES: Final = 600_000


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
        self._wires: list[bytes] = []

    def add(self, wires: Iterable[bytes]) -> None:
        """Send the records once they fill a push."""
        self._wires += wires
        if len(self._wires) >= PUSH_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Send all records."""
        while self._wires:
            some, self._wires = self._wires[:PUSH_RECORDS], self._wires[PUSH_RECORDS:]
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
    if order.end > datetime.now(UTC).date():
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
        self._fleet = devices(order)
        self._physics = Physics(order)
        counts = {place: sum(one.place is place for one in self._fleet) for place in PLACES}
        self._timetables = _timetables(order, counts)
        self._room = ServerRoom(order, self._fleet, self._timetables[ROOM], self._physics)
        self._truth = Truth(order, len(self._fleet))
        now = round(datetime.now(UTC).timestamp() * MILLISECONDS_PER_SECOND)
        self._pushes = Pushes(collector.writer, now, collector.settings.grpc.admitted_pushes)

    def fill(self) -> Truth:
        """Declare, enrol, tell, derive, keep."""
        context = self._collector.operations.context
        put_sites(context, self._timetables)
        hosts = enrol(context, self._order, self._fleet)
        self._declare()
        # The room first: machines with a shared meter are then derived once, after the meter's readings are
        # stored.
        derived = 0
        ordered = sorted(self._fleet, key=lambda one: (one.place is not ROOM, one is not self._room.poller))
        for done, device in enumerate(ordered):
            self._progress("machines", done, len(ordered))
            if device.place is not ROOM and self._pushes.records >= derived + _RECORDS_BETWEEN:
                derived = self._derive()
            self._add_device(device, hosts.get(device.number))
        self._derive()
        self._add_other_devices()
        self._import_inventory()
        self._progress("months", 0, 1)
        self._collector.rolls.drain()
        self._progress("done", 1, 1)
        return self._truth

    def _declare(self) -> None:
        """Declare what an operator would: shared meters, a calibration."""
        perform = self._collector.operations.perform
        if self._room.poller is not None:
            ids = {one.number: agent_id_of(self._order, one).hex() for one in self._room.on_pdu}
            found = perform(
                "meters_import", {"text": self._room.declaration(ids), "name": "simulated.toml", "who": WHO}
            )
            if found["refused"]:
                raise CollectorError(
                    f"simulated meters were refused: {found['refused'][0]}: this is a defect"
                )
        for model in dict.fromkeys(one.model for one in self._fleet if one.model.calibrated):
            perform("calibration_put", {"fit": facts_of(self._physics.calibration(model)), "who": WHO})

    # --- machines

    def _add_device(self, device: SimulatedDevice, host_id: HostId | None) -> None:
        """Add all days of a machine to the truth, and from its agent's first day to the store."""
        timetable = self._timetables[device.place]
        routine, machine = routine_of(device, self._order.seed), self._physics.machine(device)
        agent, stream = (None, None) if host_id is None else self._agent(device, host_id)
        for day in days(self._order.first, self._order.end):
            slots = timetable.slots(day)
            if not device.in_service(day):
                continue
            spans = routine.spans(day, timetable.day_type(day), slots[0].start, slots[-1].end)
            powers = [machine.powers(span) for span in spans]
            self._truth.add(device, day, _energy(spans, powers), self._screens(device, spans))
            if agent is not None and stream is not None and device.agent_from and day >= device.agent_from:
                stream.add(agent.day(day, spans, powers))
        if stream is not None:
            stream.flush()

    def _add_other_devices(self) -> None:
        """Add devices without an agent to the truth."""
        for day in days(self._order.first, self._order.end):
            slots = self._timetables[ROOM].slots(day)
            beside = self._room.other_energy(slots[0].start, slots[-1].end)
            self._truth.add_other(ROOM, day, OTHER_ROOM, beside)
            for place in COLLEGES:
                kind = self._timetables[place].day_type(day)
                length = slots[-1].end - slots[0].start
                for device_class, number in registry.OTHER_DEVICES:
                    watts = self._physics.other_device_watts(device_class.value, kind)
                    self._truth.add_other(place, day, device_class.value, number * watts * length)

    def _agent(self, device: SimulatedDevice, host_id: HostId) -> tuple[Agent, Stream]:
        polls = device is self._room.poller
        agent = Agent(
            device,
            self._timetables[device.place],
            self._physics,
            self._order.seed,
            METERS if polls else None,
            self._room.shared_watts if polls else None,
        )
        epoch = random.Random(f"{self._order.seed}/{device.number}/epoch").randbytes(EPOCH_BYTES)
        machine = MachineLimits(device.place.population, device.model.device_class, allow_fake=False)
        return agent, Stream(self._pushes, host_id, machine, epoch)

    def _screens(self, device: SimulatedDevice, spans: Sequence[Span]) -> float:
        """Return the energy of its external screens, mJ: on while in use, else in standby."""
        if not device.screens:
            return 0.0
        return sum(
            self._physics.screens_watts(device.screens, span.screens) * (span.end - span.start)
            for span in spans
        )

    # --- following steps

    def _derive(self) -> int:
        """Derive all dirty periods while their pages are cached;
        return the number of records sent by then.
        """
        self._pushes.wait()
        worker, writer = self._collector.derive, self._collector.writer

        def job() -> int:
            done = 0
            while done < _PERIODS_PER_JOB and (some := worker.run_slice()):
                done += some
            return done

        while writer.submit(job).result():
            pass
        return self._pushes.records

    def _import_inventory(self) -> None:
        """Import the inventory as `veilleuse inventory import`: the fleet, then retirements."""
        for number, files in enumerate(registry.imports(self._order, self._fleet)):
            words = InventoryMapping(sites=frozenset(place.site for place in PLACES))
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


def _timetables(order: SimulationOrder, counts: Mapping[EntitySite, int]) -> dict[EntitySite, Timetable]:
    """Return the timetable of each place; places of one kind share one."""
    kinds: dict[tuple[bool, Population, int | None], Timetable] = {}
    found: dict[EntitySite, Timetable] = {}
    for place in PLACES:
        period = period_of(place.population, order, counts[place])
        kind = (place.school, place.population, period)
        found[place] = kinds[kind] = kinds.get(kind) or Timetable(order, place, period)
    return found


def _energy(spans: Sequence[Span], powers: Powers) -> float:
    """Return the energy at the socket, mJ."""
    return sum(
        mean_watts(span, active.wall, idle.wall) * (span.end - span.start)
        for span, (active, idle) in zip(spans, powers, strict=True)
    )


class Truth:
    """True energy by month, place and class, to compare with the intervals of a report.

    A virtual machine's energy is its host's, so it is not included.
    """

    def __init__(self, order: SimulationOrder, machines: int) -> None:
        self._order = order
        self._machines = machines
        self._sums: defaultdict[_Key, float] = defaultdict(float)

    def add(self, device: SimulatedDevice, day: date, millijoules: float, screens_millijoules: float) -> None:
        """Add one machine's day, with its external screens'."""
        if device.model is VIRTUAL:
            return
        self._sums[_key(device.place, day, device.model.device_class.value)] += millijoules
        if screens_millijoules:
            self._sums[_key(device.place, day, MONITOR)] += screens_millijoules

    def add_other(self, place: EntitySite, day: date, device_class: str, millijoules: float) -> None:
        """Add devices without an agent: network, overhead, and devices of the inventory alone."""
        self._sums[_key(place, day, device_class)] += millijoules

    def kwh(self, first: date, end: date, **where: str) -> float:
        """Return the kWh of whole months [first, end); `where`: entity, site, population or device_class."""
        return sum(
            float(row["kwh"])
            for row in self._rows()
            if first.isoformat() <= f"{row['month']}-01" < end.isoformat()
            and all(row[name] == value for name, value in where.items())
        )

    def _rows(self) -> Iterable[dict[str, Any]]:
        names = ("month", "entity", "site", "population", "device_class")
        for key, energy in sorted(self._sums.items()):
            whole = round(energy)
            yield {
                **dict(zip(names, key, strict=True)),
                "energy_millijoules": whole,
                "kwh": kwh_from_millijoules(whole),
            }

    def document(self) -> dict[str, Any]:
        """Return the truth for JSON."""
        rows = list(self._rows())
        by_entity: defaultdict[str, float] = defaultdict(float)
        for row in rows:
            by_entity[row["entity"]] += row["kwh"]
        return {
            "data": "simulated",
            "seed": self._order.seed,
            "from": self._order.first.isoformat(),
            "to": self._order.end.isoformat(),
            "hosts": self._order.hosts,
            "machines": self._machines,
            "kwh_total": sum(row["kwh"] for row in rows),
            "kwh_by_entity": dict(by_entity),
            "months": rows,
        }

    def text(self) -> str:
        """Return one JSON document; the same for the same seed."""
        return json.dumps(self.document(), ensure_ascii=False, indent=1) + "\n"


def _key(place: EntitySite, day: date, device_class: str) -> _Key:
    return day.isoformat()[:7], place.entity, place.site, place.population.value, device_class
