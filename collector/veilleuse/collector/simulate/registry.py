# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes sites, tokens and hosts of a simulated fleet as enrolment would; no host has a certificate."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.admin.sites import put
from veilleuse.collector.enrolment.issuing import store_moment
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.hosts import HostStatus, Site
from veilleuse.collector.model.inventory import LEAST_TELEWORK_USERS, InventoryClass
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.simulate.calendars import TIME_ZONE, Timetable
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder
from veilleuse.collector.simulate.places import VENDOR, VIRTUAL, EntitySite
from veilleuse.collector.validate import clean_facts, clean_health
from veilleuse.collector.wire_codec import number
from veilleuse.wire.limits import AGENT_ID_BYTES
from veilleuse.wire.pseudonym import normalise_serial, pseudonym
from veilleuse.wire.units import MILLISECONDS_PER_DAY, UNIX_EPOCH_DAY
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

_ASSETS: Final = (
    "key", "item", "device_class", "entity", "site", "vendor", "model", "in_service_on", "out_of_service_on", "refurbished",
    "displays", "inventory_number", "name", "serial", "population",
)  # fmt: skip
_HEADCOUNTS: Final = ("entity", "from_day", "users", "telework_days_per_week")
_PURCHASES: Final = ("year", "category", "amount_excluding_vat_eur", "reused", "units", "entity")
_RETIREMENTS: Final = ("day", "destination", "asset", "reuse_committed", "entity")
SOURCE: Final = "simulated"
"""Name of this inventory."""
OTHER_DEVICES: Final = (
    (InventoryClass.SWITCH, 2),
    (InventoryClass.WIFI_ACCESS_POINT, 4),
    (InventoryClass.PRINTER, 1),
    (InventoryClass.PROJECTOR, 3),
)
"""Devices of each college without an agent, and their number."""
_TELEWORK_DAYS: Final = "1.2"
"""Declared days per user and week: 0.6 of the users with a laptop, on 2 days."""
_REUSED_SHARE: Final = 0.3
_DOUBTFUL_MODEL: Final = "Modèle inconnu"


def imports(order: SimulationOrder, fleet: Sequence[SimulatedDevice]) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the files, (name, content), of each import in turn: retired assets must be known first."""
    yield [
        _file("simulated-entities.csv", ("entity", "site", "power_context", "population"), _entities(order)),
        _file("simulated-assets.csv", _ASSETS, _assets(order, fleet)),
        _file("simulated-headcounts.csv", _HEADCOUNTS, _headcounts(order, fleet)),
        _file("simulated-purchases.csv", _PURCHASES, _purchases(order, fleet)),
    ]
    retired = list(_retirements(fleet))
    if retired:
        yield [_file("simulated-retirements.csv", _RETIREMENTS, retired)]


def colleges(order: SimulationOrder) -> tuple[EntitySite, ...]:
    """Return one place of each college."""
    return tuple({place.entity: place for place in order.places if place.school}.values())


def key_of(device: SimulatedDevice) -> str:
    """Return the inventory's permanent key of a device."""
    return f"SIM-{device.number:06}"


def name_of(device: SimulatedDevice) -> str:
    """Return the name of a machine in its network."""
    kind = "vm" if device.model == VIRTUAL else "srv" if device.place.is_room else "pc"
    return f"{kind}-{device.place.site.rpartition('salle-')[2]}-{device.number}"


def _file(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> tuple[str, bytes]:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return name, text.getvalue().encode()


def _entities(order: SimulationOrder) -> Iterator[Sequence[object]]:
    places = {place.entity: place for place in order.places}  # a college's classrooms come last
    for place in places.values():
        yield place.entity, place.site, place.power_context.value, place.population.value


def _assets(order: SimulationOrder, fleet: Sequence[SimulatedDevice]) -> Iterator[Sequence[object]]:
    for device in fleet:
        key, place = key_of(device), device.place
        yield (
            key, "computer", device.model.device_class.value, place.entity, place.site, VENDOR,
            _DOUBTFUL_MODEL if device.is_model_doubtful else device.model.name,
            device.in_service_on, device.out_of_service_on or "", "yes" if device.refurbished else "no", device.screens, key,
            name_of(device), device.serial, place.population.value,
        )  # fmt: skip
        for screen in range(device.screens):
            name = f"{key}-E{screen + 1}"
            yield (
                name, "monitor", EnergyClass.MONITOR.value, place.entity, place.site, VENDOR, "Écran 24", device.in_service_on,
                device.out_of_service_on or "", "no", "", name, "", "", place.population.value,
            )  # fmt: skip
    for place in colleges(order):
        yield from _other_devices(order, place)


def _other_devices(order: SimulationOrder, place: EntitySite) -> Iterator[Sequence[object]]:
    since = date(order.first.year - 4, 9, 1)  # before the simulated time
    items = {InventoryClass.PRINTER: "printer", InventoryClass.PROJECTOR: "peripheral"}
    for kind, amount in OTHER_DEVICES:
        for one in range(amount):
            name = f"SIM-{place.site}-{kind.value}-{one + 1}"
            yield (
                name, items.get(kind, "network_equipment"), kind.value, place.entity, place.site, VENDOR, kind.value, since, "",
                "no", "", name, "", "", "",
            )  # fmt: skip


def _headcounts(order: SimulationOrder, fleet: Sequence[SimulatedDevice]) -> Iterator[Sequence[object]]:
    for place in order.places:
        if not place.is_office:
            continue
        users = sum(one.place == place for one in fleet)
        days = _TELEWORK_DAYS if users >= LEAST_TELEWORK_USERS else ""
        yield place.entity, date(order.first.year, 1, 1), users, days


def _purchases(order: SimulationOrder, fleet: Sequence[SimulatedDevice]) -> Iterator[Sequence[object]]:
    buyer = next(place.entity for place in order.places if place.is_office)
    for year in range(order.first.year, order.end.year + 1):
        units = max(1, len(fleet) // 8)
        reused = round(units * _REUSED_SHARE)
        yield year, "Ordinateurs", f"{(units - reused) * 700}.00", "no", units - reused, buyer
        if reused:
            yield year, "Ordinateurs", f"{reused * 320}.00", "yes", reused, buyer


def _retirements(fleet: Sequence[SimulatedDevice]) -> Iterator[Sequence[object]]:
    for device in fleet:
        if device.out_of_service_on is not None:
            where = "reuse" if device.number % 2 else "recycling"
            committed = "yes" if where == "reuse" else "no"
            yield device.out_of_service_on, where, key_of(device), committed, device.place.entity


ZONE: Final = "FR"
_GIBIBYTE: Final = 2**30
OUTDATED_VERSION: Final = "0.1.0"
_READINGS: Final = 8_640
"""Of a day."""
_NEVER_SECONDS: Final = 0
_DISPLAY_OFF_SECONDS: Final = 900
_SLEEP_SECONDS: Final = 1_800


def put_sites(context: AdminContext, timetables: Mapping[EntitySite, Timetable]) -> None:
    """Store each site with all calendars that it had."""
    for name, timetable in {place.site: timetable for place, timetable in timetables.items()}.items():
        put(context, site=name, zone=ZONE, time_zone=TIME_ZONE)

        def job(name: str = name, versions: Any = timetable.versions) -> None:
            site: Site = context.issuing.registry.site(name)
            context.issuing.registry.put_site(replace(site, calendar_json=versions[-1].calendar.to_json()))
            context.store.calendars.put(name, versions)

        context.issuing.commit(job)


def agent_id_of(order: SimulationOrder, device: SimulatedDevice) -> AgentId:
    """Draw an agent id; the same for the same seed."""
    draw = random.Random(f"{order.seed}/{device.number}/identity")
    return AgentId(draw.randbytes(AGENT_ID_BYTES))


def enrol(
    context: AdminContext,
    order: SimulationOrder,
    fleet: Sequence[SimulatedDevice],
    together: Callable[[], AbstractContextManager[object]],
) -> dict[int, HostId]:
    """Enrol every machine with an agent; return device number → host.

    `together`: makes one transaction of the names and pseudonyms of a place.
    """
    agents: dict[EntitySite, list[SimulatedDevice]] = {place: [] for place in order.places}
    for device in fleet:
        if device.agent_from is not None:
            agents[device.place].append(device)
    hosts: dict[int, HostId] = {}
    for place, machines in agents.items():

        def job(place: EntitySite = place, machines: Sequence[SimulatedDevice] = machines) -> None:
            token = _token(context.issuing.registry, order, place)
            with together():
                hosts.update((one.number, _host(context, order, one, token)) for one in machines)

        context.issuing.commit(job)
    return hosts


def greet(context: AdminContext, fleet: Iterable[SimulatedDevice], hosts: Mapping[int, HostId]) -> None:
    """Store a contact of this moment of every machine that is not silent."""
    now = context.issuing.now_unix_milliseconds()

    def job() -> None:
        for device in fleet:
            if device.number in hosts and device.agent_until is None:
                context.issuing.registry.record_hello(
                    hosts[device.number],
                    facts_wire=None,
                    health_wire=None,
                    now_unix_milliseconds=store_moment(now, device.place.population),
                )

    context.issuing.commit(job)


def add_copies(
    context: AdminContext,
    order: SimulationOrder,
    fleet: Iterable[SimulatedDevice],
    hosts: Mapping[int, HostId],
) -> None:
    """Add clones that wait for an operator, and one identity that two machines use."""
    registry, number = context.issuing.registry, order.preset.oddities.copies
    copied = [one for one in fleet if one.number in hosts and one.place.population is Population.CLASSROOM]
    draw = random.Random(f"{order.seed}/copies")

    def job() -> None:
        for device in copied[:number]:
            token = registry.token_of_host(hosts[device.number])
            assert token is not None, "every simulated host has a token"
            registry.insert_host(
                agent_id=AgentId(draw.randbytes(AGENT_ID_BYTES)),
                token_id=token.token_id,
                org_entity=device.place.entity,
                site=device.place.site,
                population=device.place.population,
                status=HostStatus.PENDING,
                enrolled_on=order.end - timedelta(days=3),
                facts_wire=facts_of(device),
                copy_of=hosts[device.number],
            )
        for device in copied[number : number + 1]:
            registry.note_conflict(hosts[device.number])

    if number:
        context.issuing.commit(job)


def _token(registry: Registry, order: SimulationOrder, place: EntitySite) -> int:
    """Insert an expired token with an unknown secret."""
    begun = _unix_milliseconds(order, 0)
    return registry.insert_token(
        token_sha256=random.Random(f"{order.seed}/token/{place.site}/{place.population.value}").randbytes(32),
        created_unix_milliseconds=begun,
        expires_unix_milliseconds=begun + 1,
        max_uses=order.hosts,
        networks=(),
        org_entity=place.entity,
        site=place.site,
        population=place.population,
        approve=False,
    )


def _host(context: AdminContext, order: SimulationOrder, device: SimulatedDevice, token_id: int) -> HostId:
    registry, place = context.issuing.registry, device.place
    agent_id, facts = agent_id_of(order, device), facts_of(device)
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
        health_wire=clean_health(_health(device)),
        now_unix_milliseconds=store_moment(_last_contact(order, device), place.population),
    )
    serial = normalise_serial(device.serial) or ""
    registry.put_pseudonyms(agent_id, pseudonym(bytes.fromhex(context.fleet_key), serial), b"")
    if place.population is Population.SERVER:
        registry.put_name(agent_id, name_of(device))
    return host_id


def _health(device: SimulatedDevice) -> pb.Health:
    version = OUTDATED_VERSION if device.is_outdated else product_version()
    health = pb.Health(agent_version=version, spool_records=0, spool_bytes=20_480)
    if device.model.has_counters:
        health.sources.add(
            name="linux_rapl",
            successes=0 if device.is_failing else _READINGS,
            failures=_READINGS if device.is_failing else 0,
        )
    return health


def _last_contact(order: SimulationOrder, device: SimulatedDevice) -> int:
    """Return the moment of its last contact in the simulated time, Unix milliseconds."""
    return _unix_milliseconds(order, ((device.agent_until or order.end) - order.first).days)


def _unix_milliseconds(order: SimulationOrder, day: int) -> int:
    """Return midnight UTC of a day of the simulation, Unix milliseconds."""
    return (order.first.toordinal() + day - UNIX_EPOCH_DAY) * MILLISECONDS_PER_DAY


def facts_of(device: SimulatedDevice) -> bytes:
    """Return the encoded facts that a machine's agent sends."""
    model = device.model
    form: Any = number(model.device_class)
    facts = pb.Facts(
        device_class=form,
        vendor=VENDOR,
        model=model.name,
        cpu_model=model.cpu_model,
        cpu_count=model.cpu_count,
        memory_bytes=model.memory_gibibytes * _GIBIBYTE,
        memory_modules=2,
        hard_disks=model.hard_disks,
        solid_state_disks=model.solid_state_disks,
        virtualisation="kvm" if model == VIRTUAL else "none",
        display_off_ac_seconds=_NEVER_SECONDS if device.always_on else _DISPLAY_OFF_SECONDS,
        sleep_ac_seconds=_NEVER_SECONDS if device.always_on else _SLEEP_SECONDS,
    )
    return clean_facts(facts)
