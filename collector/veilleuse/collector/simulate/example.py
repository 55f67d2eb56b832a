# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Makes all messages that a workstation, a classroom PC and a server send in one day, as an example.

`make docs` writes them into data/, where the page about privacy reads them.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final

from veilleuse.collector.simulate.agent_stream import Agent
from veilleuse.collector.simulate.calendars import COARSE_MILLISECONDS, FINE_MILLISECONDS, Timetable, days
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder, devices
from veilleuse.collector.simulate.physics import Physics
from veilleuse.collector.simulate.registry import facts_of
from veilleuse.collector.simulate.routines import routine_of
from veilleuse.wire.chain import chain_start
from veilleuse.wire.limits import EPOCH_BYTES, PROTOCOL_MINOR_MAXIMUM, PROTOCOL_MINOR_MINIMUM
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, Population

ORDER: Final = SimulationOrder(hosts=10, first=date(2026, 3, 9), days=7, seed=2026)
"""A week from Monday to Sunday, without holidays."""
WORKING_DAY: Final = ORDER.first + timedelta(days=1)
SUNDAY: Final = ORDER.end - timedelta(days=1)
PERIODS: Final = {
    Population.WORKSTATION: None,
    Population.CLASSROOM: COARSE_MILLISECONDS,
    Population.SERVER: FINE_MILLISECONDS,
}
"""Length of a record's period: the finest that each population sends by default."""
DAYS: Final = {
    Population.WORKSTATION: SUNDAY,
    Population.CLASSROOM: WORKING_DAY,
    Population.SERVER: WORKING_DAY,
}
"""Day of each example; on a Sunday a workstation's week ends too."""
_AGENT_VERSION: Final = "0.0.0"
_INSTANCE_BYTES: Final = 16
_RESIDENT_BYTES: Final = 18 << 20
_SPOOL_BYTES: Final = 20_480
_TICKS: Final = 8_640
"""Ticks of ten seconds in a day."""


def example_json() -> str:
    """Return population → day and encoded messages, base64, as a JSON document; always the same."""
    fleet, physics = devices(ORDER), Physics(ORDER)
    found = {}
    for population, day in DAYS.items():
        device = next(one for one in fleet if _is_fit(one, population, day))
        found[population.value] = {
            "day": day.isoformat(),
            "messages": [
                {"name": message.DESCRIPTOR.name, "wire": base64.b64encode(_encoded(message)).decode()}
                for message in _messages(device, physics, day)
            ],
        }
    return json.dumps(found, indent=1) + "\n"


def _encoded(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def _is_fit(device: SimulatedDevice, population: Population, day: date) -> bool:
    """Tell if a machine shows all that its population sends: it has counters, and no trouble on that day."""
    trouble = device.trouble
    return (
        device.place.population is population
        and device.agent_from is not None
        and device.agent_from < day
        and (trouble is None or not trouble.first <= day < trouble.end)
        and device.model.has_counters
        and (population is not Population.WORKSTATION or device.model.device_class is DeviceClass.LAPTOP)
        and (population is not Population.SERVER or device.model.own_meter)
    )


def _messages(device: SimulatedDevice, physics: Physics, day: date) -> Iterator[Any]:
    """Yield the Hello that opens an exchange, and one Push with the day's records."""
    timetable = Timetable(ORDER, device.place, PERIODS[device.place.population])
    draw = random.Random(f"{ORDER.seed}/{device.number}/example")
    epoch, records = draw.randbytes(EPOCH_BYTES), _records(device, timetable, physics, day)
    yield _hello(device, epoch, draw.randbytes(_INSTANCE_BYTES), timetable.sha256(day), records)
    yield pb.PushRequest(epoch=epoch, first_seq=1, chain_before=chain_start(epoch), records=records)


def _records(device: SimulatedDevice, timetable: Timetable, physics: Physics, day: date) -> Sequence[bytes]:
    """Return the records that end on a day; the days before it are needed for the week's."""
    agent = Agent(device, timetable, physics, ORDER.seed)
    routine, machine = routine_of(device, ORDER.seed), physics.machine(device)
    found: list[bytes] = []
    for each in days(max(ORDER.first, device.agent_from or ORDER.first), day + timedelta(days=1)):
        slots = timetable.slots(each)
        spans = routine.spans(each, timetable.day_type(each), slots[0].start, slots[-1].end)
        found = list(agent.day(each, spans, [machine.powers(span) for span in spans]))
    return found


def _hello(
    device: SimulatedDevice, epoch: bytes, instance: bytes, calendar: bytes, records: Sequence[bytes]
) -> Any:
    hello = pb.HelloRequest(epoch=epoch, last_seq=len(records), instance_id=instance)
    hello.protocol.minimum, hello.protocol.maximum = PROTOCOL_MINOR_MINIMUM, PROTOCOL_MINOR_MAXIMUM
    hello.calendar.sha256, hello.calendar.state = calendar, pb.APPLIED_STATE_CONFIRMED
    hello.facts.ParseFromString(facts_of(device))
    health = hello.health
    health.agent_version, health.spool_bytes = _AGENT_VERSION, _SPOOL_BYTES
    health.spool_records, health.quarantine_records = len(records), 0
    health.resident_cpu_milliseconds, health.resident_rss_bytes = 2 * _TICKS, _RESIDENT_BYTES
    health.sources.add(name="linux_rapl", successes=_TICKS, failures=0)
    if device.model.device_class is DeviceClass.LAPTOP:
        health.sources.add(name="linux_battery", successes=_TICKS, failures=0)
    else:
        health.sources.add(name="linux_battery", unavailable="no_device")
    return hello
