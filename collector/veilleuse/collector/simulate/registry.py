# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sites, tokens and hosts of a simulated fleet, as enrolment would have left them; none of them holds a certificate."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.enrolment.issuing import store_moment
from veilleuse.collector.model.records import AgentId, HostId, HostStatus, Site
from veilleuse.collector.ports import Registry
from veilleuse.collector.simulate.agent_stream import points_of
from veilleuse.collector.simulate.calendars import TIME_ZONE, Timetable
from veilleuse.collector.simulate.cells import SCREEN_SIZE
from veilleuse.collector.simulate.fleet import PLACES, Device, Order, Place
from veilleuse.collector.simulate.listing import key_of
from veilleuse.collector.simulate.models import VENDOR, VIRTUAL
from veilleuse.collector.simulate.server_room import METERS
from veilleuse.collector.validate import clean_facts, clean_health
from veilleuse.collector.version import product_version
from veilleuse.collector.wire_codec import number
from veilleuse.wire.limits import AGENT_ID_BYTES
from veilleuse.wire.pseudonym import normalised_serial, pseudonym
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

ZONE: Final = "FR"
_GIBIBYTE: Final = 2**30
_NEVER_SECONDS: Final = 0
_DISPLAY_OFF_SECONDS: Final = 900
_SLEEP_SECONDS: Final = 1_800


def put_sites(operations: Operations, timetables: dict[Place, Timetable]) -> None:
    """Each with all the calendars that it had."""
    for place in PLACES:
        operations.perform("site_put", {"site": place.site, "zone": ZONE, "time_zone": TIME_ZONE})
        versions = timetables[place].versions

        def job(place: Place = place, versions: Any = versions) -> None:
            site: Site = operations.office.registry.site(place.site)
            operations.office.registry.put_site(replace(site, calendar_json=versions[-1].calendar.to_json()))
            operations.calendars.put(place.site, versions)

        operations.office.commit(job)


def agent_id_of(order: Order, device: Device) -> AgentId:
    """As random as any; the same for the same seed."""
    draw = random.Random(f"{order.seed}/{device.number}/identity")
    return AgentId(draw.randbytes(AGENT_ID_BYTES))


def enrol(
    operations: Operations, order: Order, fleet: Sequence[Device], poller: Device | None
) -> dict[int, HostId]:
    """Device number → host of every machine with an agent."""
    registry = operations.office.registry

    def job() -> dict[int, HostId]:
        tokens = {place: _token(registry, order, place) for place in PLACES}
        return {
            device.number: _host(operations, order, device, tokens[device.place], polls=device is poller)
            for device in fleet
            if device.agent_from is not None
        }

    return operations.office.commit(job)


def _token(registry: Registry, order: Order, place: Place) -> int:
    """Long over, and of a text that nobody knows."""
    begun = _unix_milliseconds(order, 0)
    return registry.insert_token(
        token_sha256=random.Random(f"{order.seed}/token/{place.site}").randbytes(32),
        created_unix_milliseconds=begun,
        expires_unix_milliseconds=begun + 1,
        max_uses=order.hosts,
        networks=(),
        org_entity=place.entity,
        site=place.site,
        population=place.population,
        approve=False,
    )


def _host(operations: Operations, order: Order, device: Device, token_id: int, *, polls: bool) -> HostId:
    registry, place = operations.office.registry, device.place
    agent_id, facts = agent_id_of(order, device), _facts(device, polls=polls)
    health = pb.Health(agent_version=product_version(), spool_records=0, spool_bytes=20_480)
    host_id = registry.insert_host(
        agent_id=agent_id,
        token_id=token_id,
        org_entity=place.entity,
        site=place.site,
        population=place.population,
        status=HostStatus.ACTIVE,
        enrolled_on=device.agent_from or order.first,
        facts_wire=facts,
    )
    registry.record_hello(
        host_id,
        facts_wire=facts,
        health_wire=clean_health(health),
        now_unix_milliseconds=store_moment(_unix_milliseconds(order, order.days), place.population),
    )
    serial = normalised_serial(device.serial) or ""
    registry.put_pseudonyms(agent_id, pseudonym(bytes.fromhex(operations.fleet_key), serial), b"")
    if place.population is Population.SERVER:
        registry.put_name(agent_id, key_of(device).lower())
    return host_id


def _unix_milliseconds(order: Order, day: int) -> int:
    """Midnight UTC of a day of the simulation."""
    return (order.first.toordinal() + day - _EPOCH_DAY) * MILLISECONDS_PER_DAY


_EPOCH_DAY: Final = 719_163
"""date(1970, 1, 1).toordinal()."""


def _facts(device: Device, *, polls: bool) -> bytes:
    model = device.model
    points, _ = points_of(device, METERS if polls else {})
    form: Any = number(model.device_class)
    facts = pb.Facts(
        device_class=form,
        vendor=VENDOR,
        model=model.name,
        cpu_model=model.cpu_model,
        cpu_count=model.cpu_count,
        cpu_sockets=1,
        memory_bytes=model.memory_gibibytes * _GIBIBYTE,
        memory_modules=2,
        hard_disks=model.hard_disks,
        solid_state_disks=model.solid_state_disks,
        os_type="linux" if device.place.population is Population.SERVER else "windows",
        host_arch="amd64",
        virtualisation="kvm" if model is VIRTUAL else "none",
        firmware_year=min(device.in_service_on.year, 2200),
        display_off_ac_seconds=_NEVER_SECONDS if device.always_on else _DISPLAY_OFF_SECONDS,
        sleep_ac_seconds=_NEVER_SECONDS if device.always_on else _SLEEP_SECONDS,
        points=points,
        agent_version=product_version(),
    )
    if device.screens:
        size: Any = SCREEN_SIZE
        facts.displays.add(size=size, count=device.screens)
    return clean_facts(facts)
