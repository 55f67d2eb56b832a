# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fits the reference units of the store or of a file, for `veilleuse calibrate`. It only reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from veilleuse.collector import clock
from veilleuse.collector.cli.shared import parse_date, read_content
from veilleuse.collector.derive.calibration.acceptance import (
    Outcome,
    Reference,
    standby_outcome,
    wall_outcome,
)
from veilleuse.collector.derive.calibration.moments import Unit
from veilleuse.collector.derive.calibration.readings import (
    FILE,
    MAX_BYTES,
    Reading,
    file_samples,
    parse_readings,
)
from veilleuse.collector.derive.calibration.samples import (
    BATTERY_FLOOR_U_PPM,
    Samples,
    StoredRecord,
    battery_samples,
    meter_u_ppm,
    metered_samples,
    trusts_psys,
)
from veilleuse.collector.derive.counters import METERS
from veilleuse.collector.derive.priors import BATTERY_U_PPM, u_ppm_of_percent
from veilleuse.collector.enrolment.tokens import checked_name
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.ipc import one_host
from veilleuse.collector.model.calibration import STANDBY, WALL, Hardware
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.records import Grain
from veilleuse.collector.ports.directory import ReferenceReader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.limits import AGENT_ID_DIGITS
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_HOUR,
    UNIX_EPOCH_DAY,
)
from veilleuse.wire.vocabulary import Boundary, DeviceClass, PointKind, Population

DEFAULT_DAYS: Final = 28
BATTERY: Final = "battery"
_ACCURACY: Final = (0.1, 20.0)


@dataclass(frozen=True, slots=True)
class ReferenceQuery:
    """Records of the store to use."""

    model: str
    first: date
    end: date
    """Exclusive."""

    @classmethod
    def of(cls, model: str, first: str | None, end: str | None) -> ReferenceQuery:
        """Make a query from options. Raises UsageError for a wrong date."""
        tomorrow = clock.today() + timedelta(days=1)
        last = tomorrow if end is None else parse_date("--to", end)
        begin = last - timedelta(days=DEFAULT_DAYS) if first is None else parse_date("--from", first)
        if begin >= last:
            raise UsageError(f"--from {begin} is not before --to {last}")
        return cls(model.casefold().strip(), begin, last)

    def names(self, hardware: Hardware) -> bool:
        """Tell whether the query asks for this model."""
        return self.model in f"{hardware.vendor} {hardware.model}"


def from_meters(settings: CollectorSettings, query: ReferenceQuery) -> list[Outcome]:
    """Fit the machines with a meter of their own in the store. Raises AdminError when there is none."""
    samples = Samples()
    with open_references(settings) as (reader, hosts):
        metered = reader.hosts_with(METERS, Boundary.WALL)
        for host, hardware in _hosts_of_model(hosts, query):
            if host.host_id in metered and host.population is not Population.WORKSTATION:
                metered_samples(
                    samples, hardware, _name(host), host.facts, clock_records(reader, host, query)
                )
    if not samples.found:
        raise AdminError(
            f"no machine{f' whose model contains {query.model!r}' * bool(query.model)} has its counters and "
            f"a meter of its own in the records of {query.first} to {query.end}: docs/calibration.md says "
            "how to set one up"
        )
    return [
        _outcome(key, _best(units), Reference("meters", *_kinds(units)))
        for key, units in sorted(samples.found.items())
    ]


def from_battery(settings: CollectorSettings, query: ReferenceQuery) -> list[Outcome]:
    """Fit laptops with hours on battery. Raises AdminError when there is none."""
    samples = Samples()
    people: set[str] = set()
    with open_references(settings) as (reader, hosts):
        powered = reader.hosts_with((PointKind.BATTERY_OUT,))
        for host, hardware in _hosts_of_model(hosts, query):
            if host.host_id not in powered or hardware.device_class is not DeviceClass.LAPTOP:
                continue
            records = [*clock_records(reader, host, query), *dated_records(reader, host, query)]
            trust = trusts_psys(records)
            battery_samples(samples, hardware, _name(host), host.facts, records, trust_psys=trust)
            if host.population is not Population.SERVER:
                people.add(_name(host))
    if not samples.found:
        raise AdminError(
            f"no laptop with hours on battery and counters in the records of {query.first} to {query.end}"
        )
    reference = Reference(BATTERY, "battery gauge", BATTERY_U_PPM, BATTERY_FLOOR_U_PPM)
    return [
        _hide_people(_outcome(key, _best(units), reference), set(units) & people, settings)
        for key, units in sorted(samples.found.items())
    ]


def from_readings(
    settings: CollectorSettings,
    file: Path,
    meter: str,
    accuracy_percent: float,
    names: Mapping[str, str],
    time_zone: str | None,
) -> list[Outcome]:
    """Fit the readings of a file to the records of the same machines.

    Raises UsageError for the whole file.
    """
    meter = checked_name("meter", meter)
    if not _ACCURACY[0] <= accuracy_percent <= _ACCURACY[1]:
        raise UsageError(f"--accuracy {accuracy_percent:g}: use {_ACCURACY[0]} to {_ACCURACY[1]:g} percent")
    content = read_content(file, MAX_BYTES, "cut it by unit or by day")
    samples = Samples()
    try:
        found = parse_readings(
            content,
            zone=_zone(time_zone),
            now_unix_milliseconds=clock.unix_milliseconds(),
        )
        if strange := sorted(set(names) - set(found)):
            raise UsageError(f"--unit {strange[0]}: the file has no such unit")
        with open_references(settings) as (reader, hosts):
            units = _units(found, names, hosts)
            for name, host, hardware in units:
                records = _records_beside(reader, host, found[name])
                file_samples(samples, hardware, name, host.facts, found[name], records)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    reference = Reference("readings", meter, u_ppm_of_percent(accuracy_percent), source_sha256=sha256)
    return [_outcome(key, _best(units), reference) for key, units in sorted(samples.found.items())]


def parse_units(options: Iterable[str]) -> dict[str, str]:
    """Parse NAME=HOST options, each name once. Raises UsageError."""
    names: dict[str, str] = {}
    for option in options:
        name, separator, host = option.rpartition("=")
        if not separator or not name or not host or name in names:
            raise UsageError(f"--unit '{option}': write NAME=HOST, each name once")
        names[name] = host
    return names


def count_derivations(settings: CollectorSettings, outcome: Outcome) -> dict[str, Any]:
    """Count what --apply would derive again: `hosts` and `periods`."""
    with open_references(settings) as (reader, hosts):
        mine = [host.host_id for host in hosts if Hardware.of(host.facts) == outcome.hardware]
        return {"hosts": len(mine), "periods": reader.periods(mine)}


@contextmanager
def open_references(settings: CollectorSettings) -> Iterator[tuple[ReferenceReader, tuple[Host, ...]]]:
    """Open the reference reader, and read the present hosts."""
    with open_reader(settings.data_dir) as store:
        hosts = store.data.hosts()
    with open_reader(settings.data_dir) as store:
        yield store.references, hosts


def _hosts_of_model(hosts: Sequence[Host], query: ReferenceQuery) -> Iterator[tuple[Host, Hardware]]:
    """Yield hosts of a known model that the query asks for.

    Virtual machines are left out: their counters are those of their host.
    """
    for host in hosts:
        hardware = Hardware.of(host.facts)
        if hardware is None or hardware.device_class is DeviceClass.VIRTUAL_MACHINE:
            continue
        if query.names(hardware):
            yield host, hardware


def _outcome(key: tuple[Hardware, str], units: Sequence[Unit], reference: Reference) -> Outcome:
    hardware, quantity = key
    if quantity not in STANDBY.values():
        return wall_outcome(hardware, quantity.removeprefix(WALL), units, reference)
    return standby_outcome(hardware, quantity, units, reference)


def _best(units: Mapping[str, Mapping[str, Unit]]) -> list[Unit]:
    """Return, for each unit, the samples of its preferred meter (order of derive)."""
    return [kinds[min(kinds, key=_preference)] for _, kinds in sorted(units.items())]


def _kinds(units: Mapping[str, Mapping[str, Unit]]) -> tuple[str, int]:
    """Return (names, largest gain error) of the meters that `_best` took."""
    kinds = sorted({min(kinds, key=_preference) for kinds in units.values()})
    return "+".join(kinds), max(map(meter_u_ppm, kinds))


def _preference(kind: str) -> int:
    return 0 if kind in (FILE, BATTERY) else METERS[PointKind(kind)][0]


def _hide_people(outcome: Outcome, people: set[str], settings: CollectorSettings) -> Outcome:
    """Remove the names of machines of persons; refuse a fit of fewer than k machines, like any figure."""
    left_out = tuple((name, why) for name, why in outcome.left_out if name not in people)
    refused, k = outcome.refused, settings.reporting.k_anonymity
    if people and outcome.kept is not None and outcome.kept.provenance.units < k:
        refused = f"it comes from fewer than {k} machines: reporting.k_anonymity"
    elif people and outcome.kept is None:
        refused = "no machine has a line of its own: too few hours on battery, or the load hardly changed"
    return replace(outcome, left_out=left_out, refused=refused)


def clock_records(reader: ReferenceReader, host: Host, query: ReferenceQuery) -> Iterator[StoredRecord]:
    """Yield records of servers and classroom PCs, in order of time."""
    start, end = (
        (day.toordinal() - UNIX_EPOCH_DAY) * MILLISECONDS_PER_DAY for day in (query.first, query.end)
    )
    for record in reader.records(host.host_id, Grain.HOUR, start, end):
        yield StoredRecord(*record)


def dated_records(reader: ReferenceReader, host: Host, query: ReferenceQuery) -> Iterator[StoredRecord]:
    """Yield records of workstations: days, and weeks of the open band, each at noon of its first day."""
    for grain in (Grain.DAY, Grain.WEEK):
        for start, milliseconds, cells in reader.records(
            host.host_id, grain, query.first.toordinal(), query.end.toordinal()
        ):
            noon = (start - UNIX_EPOCH_DAY) * MILLISECONDS_PER_DAY + MILLISECONDS_PER_DAY // 2
            yield StoredRecord(noon, milliseconds, cells)


def _records_beside(reader: ReferenceReader, host: Host, readings: Sequence[Reading]) -> list[StoredRecord]:
    start = readings[0].start - readings[0].start % MILLISECONDS_PER_HOUR
    end = readings[-1].end + 1
    return [StoredRecord(*record) for record in reader.records(host.host_id, Grain.HOUR, start, end)]


def _units(
    found: Mapping[str, Sequence[Reading]], names: Mapping[str, str], hosts: Sequence[Host]
) -> list[tuple[str, Host, Hardware]]:
    """Find the machine of each unit of the file. Raises UsageError, which names the unit's first row."""
    units: list[tuple[str, Host, Hardware]] = []
    taken: dict[int, str] = {}
    for name, readings in found.items():
        where = f"row {min(one.row for one in readings)}, column unit: '{name}'"
        try:
            host = one_host(hosts, names.get(name, name))
        except AdminError as error:
            raise UsageError(f"{where}: {error}; or give --unit '{name}=HOST'") from error
        if host.host_id in taken:
            raise UsageError(f"{where} is the same machine as '{taken[host.host_id]}'")
        taken[host.host_id] = name
        if host.population is Population.WORKSTATION:
            raise UsageError(
                f"{where} is a workstation, whose records have no time of day; enrol a stock or lab machine "
                "of the model as a server"
            )
        hardware = Hardware.of(host.facts)
        if hardware is None or hardware.device_class is DeviceClass.VIRTUAL_MACHINE:
            raise UsageError(
                f"{where} has no known vendor and model, or is virtual: only hardware models are calibrated"
            )
        units.append((name, host, hardware))
    return units


def _zone(name: str | None) -> ZoneInfo | None:
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"--time-zone '{name}' does not exist: write it like Europe/Paris") from error


def _name(host: Host) -> str:
    return host.agent_id.hex()[:AGENT_ID_DIGITS]
