# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the attribution report: one row per part of one server's energy, and their total."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.derive.attribution import attribution
from veilleuse.collector.documents.document import Document, Row, Value
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.ipc import one_host
from veilleuse.collector.model.attribution import Attribution, AttributionShare, IdleBasis, Why
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.ports.store import DataReader
from veilleuse.wire.limits import AGENT_ID_DIGITS, CONTAINERS
from veilleuse.wire.units import MICROWATTS_PER_MILLIWATT, MILLIJOULES_PER_KWH, MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import DeviceClass, Population

COLUMNS: Final = (
    "part",
    "name",
    "energy_millijoules",
    "kwh",
    "share_of_energy",
    "share_of_dynamic",
    "cpu_milliseconds",
    "method",
    "basis",
    "idle_power_watts",
    "why",
    "data",
)
ASSUMPTIONS: Final = (
    "Parts sum to the total exactly, in mJ: not_on + idle + services + guests + containers + rest_of_system + not_attributed.",
    "The dynamic part of an hour is shared by the CPU time of that hour: a convention. Nothing meters a service.",
    "Memory, disks, network and GPUs are shared as if they followed the processors. No interval is given for a part.",
    "The idle part is nobody's: it is there whatever runs. A service that is taken away saves at most its dynamic part.",
    "containers is one part, of all of a server's containers together; a runtime's own service is a service.",
    "rest_of_system is CPU time of none of these: the kernel, sessions and what runs in them, other control groups.",
    "Guests are seen from their host. What an agent inside a guest says is a memo line elsewhere, and is in no part here.",
    "No part is a person: services without their instance, guests under a pseudonym of this host, sessions never read.",
)
_BASIS: Final = {
    IdleBasis.OBSERVED: "Idle part, observed: all energy of on-idle time, and as much power of on-active time as the machine drew "
    "on-idle in this period.",
    IdleBasis.MODEL: "Idle part, model: the load model at no load; the energy itself is that model's.",
    IdleBasis.CLASS: "Idle part, class: the energy was measured, but the machine was on-idle for less than an hour: the device class's "
    "power at no load stands in (GSD² 1.5), and never more than was measured.",
}
_WHY: Final = {
    Why.NO_UNITS: "not_attributed, no_units: hours in which no CPU time of units was told (measure.units on the machine).",
    Why.NO_LOAD: "not_attributed, no_load: the load of the whole machine, or its number of processors, is not known.",
    Why.NO_IDLE_POWER: "not_attributed, no_idle_power: what the machine draws without load is not known.",
    Why.NO_WORK: "not_attributed, no_work: energy above the idle part, and no CPU time.",
}
_MEMO: Final = (
    "This is a virtual machine: its host carries the energy, and these figures are in no total of the fleet."
)


def document(found: Attribution, head: dict[str, Value | list[str] | None], *, memo: bool) -> Document:
    """Build the report of one machine; `head` describes the query; `memo` is true for a virtual machine."""
    data = str(head["data"])
    notes = [*ASSUMPTIONS, *(_BASIS[basis] for basis in sorted({basis for _, basis in found.idle}))]
    notes += [_WHY[why] for why in sorted(found.not_attributed)]
    total = {"part": "total", **_energy(found, found.energy_millijoules), "data": data}
    return Document(
        head={
            "kind": "attribution",
            **head,
            "memo": True if memo else None,
            "energy_uncertainty_millijoules": found.uncertainty_millijoules,
            "method_mix": _mix(found),
            "coverage_energy": _ratio(found.derived_milliseconds, found.on_milliseconds),
            "coverage_units": _ratio(found.shared_milliseconds, found.on_milliseconds),
        },
        columns=COLUMNS,
        tables={"rows": [{**row, "data": data} for row in _rows(found)], "totals": [total]},
        tabular=("rows", "totals"),
        assumptions=(*notes, _MEMO) if memo else tuple(notes),
    )


def _rows(found: Attribution) -> list[Row]:
    rows: list[Row] = []
    for (method, basis), energy in sorted(found.idle.items()):
        watts = found.powers[method].microwatts / MICROWATTS_PER_MILLIWATT / MILLIWATTS_PER_WATT
        words = {"method": method.value, "basis": basis.value, "idle_power_watts": watts}
        rows.append({"part": "idle", **_energy(found, energy), **words})
    ordered = sorted(found.units.items(), key=lambda one: (-one[1].energy_millijoules, one[0]))
    for kind, part in (("unit", "service"), ("guest", "guest")):
        rows += [
            _shared(found, share, part, name.partition(":")[2])
            for name, share in ordered
            if name.startswith(f"{kind}:") and name != CONTAINERS
        ]
    if (containers := found.units.get(CONTAINERS)) is not None:
        rows.append(_shared(found, containers, "containers"))
    rows.append(_shared(found, found.rest, "rest_of_system"))
    rows += [
        {"part": "not_attributed", **_energy(found, energy), "why": why.value}
        for why, energy in sorted(found.not_attributed.items())
    ]
    rows.append({"part": "not_on", **_energy(found, found.not_on_millijoules)})
    return rows


def _shared(found: Attribution, share: AttributionShare, part: str, name: str | None = None) -> Row:
    dynamic = found.rest.energy_millijoules + sum(one.energy_millijoules for one in found.units.values())
    ratio = _ratio(share.energy_millijoules, dynamic)
    row: dict[str, Value | None] = {
        "part": part,
        "name": name,
        **_energy(found, share.energy_millijoules),
        "share_of_dynamic": ratio,
        "cpu_milliseconds": share.cpu_milliseconds,
    }
    return {column: value for column, value in row.items() if value is not None}


def _energy(found: Attribution, energy: int) -> dict[str, Value]:
    ratio = _ratio(energy, found.energy_millijoules)
    words: dict[str, Value] = {"energy_millijoules": energy, "kwh": energy / MILLIJOULES_PER_KWH}
    return words if ratio is None else {**words, "share_of_energy": ratio}


def _mix(found: Attribution) -> dict[str, float] | None:
    if not found.energy_millijoules:
        return None
    return {
        method.value: energy / found.energy_millijoules for method, energy in sorted(found.methods.items())
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


LONGEST_DAYS: Final = 400


def attribution_document(
    reader: DataReader, beginning: str, first: date, end: date, now_unix_milliseconds: int
) -> Document:
    """Build the report of the server with this agent id prefix, over the civil days [first, end) of its site.

    Raises UsageError for a bad period, AdminError for a machine without attribution.
    """
    if not first < end <= first + timedelta(days=LONGEST_DAYS):
        raise UsageError(f"--from {first} must be before --to {end}, by at most {LONGEST_DAYS} days")
    host = one_host(reader.hosts(), beginning)
    _require_server(host)
    site = next(site for site in reader.sites() if site.site == host.site)
    since, until = (day_start_unix_milliseconds(day, site.time_zone) for day in (first, end))
    hours = tuple(reader.host_hours(host.host_id, since, until))
    if not hours:
        raise AdminError(
            f"host {host.agent_id.hex()[:AGENT_ID_DIGITS]} has no record of {first} to {end}: its energy is not known; see 'veilleuse hosts show'"
        )
    found = attribution(hours, host.facts)
    return document(
        found,
        {
            "host": host.agent_id.hex(),
            "from": first.isoformat(),
            "to": end.isoformat(),
            "time_zone": site.time_zone,
            "entity": host.org_entity,
            "site": host.site,
            "device_class": host.facts.device_class.value,
            "data": "simulated" if reader.data_kind().simulated else "real",
            "method_version": METHOD_VERSION,
            "periods_not_derived": reader.dirty_count(),
            "generated_unix_milliseconds": now_unix_milliseconds,
        },
        memo=host.facts.device_class is DeviceClass.VIRTUAL_MACHINE,
    )


def _require_server(host: Host) -> None:
    if host.population is not Population.SERVER:
        raise AdminError(
            f"host {host.agent_id.hex()[:AGENT_ID_DIGITS]} is of the population {host.population.value}: energy is shared between the "
            "services of servers only, never of a machine that people sit at"
        )
