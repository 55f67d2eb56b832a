# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Draws the machines of a study with plugs, and compares them with their plugs, for `veilleuse plugs`."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from veilleuse.collector import clock
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.cli.calibrate_references import (
    ReferenceQuery,
    clock_records,
    dated_records,
    open_references,
)
from veilleuse.collector.cli.shared import plural, read_content, read_text
from veilleuse.collector.derive.calibration.acceptance import Reference
from veilleuse.collector.derive.calibration.comparison import StudyTime, StudyUnit, leave_one_out
from veilleuse.collector.derive.calibration.readings import MAX_BYTES, Reading, parse_readings
from veilleuse.collector.derive.calibration.samples import Samples, StoredRecord, metered_samples
from veilleuse.collector.derive.priors import METER_U_PPM, MILLION
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.ipc import one_host
from veilleuse.collector.model.calibration import Hardware
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.ports.directory import ReferenceReader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_SECOND,
    UNIX_EPOCH_DAY,
)
from veilleuse.wire.vocabulary import SOURCES_OF_SYSTEM, DeviceClass, Population

WEEKS: Final = 4
HEARD_DAYS: Final = 7
"""A machine that was silent for longer is not drawn; our choice."""
_MAX_BYTES: Final = 2**20
_NOT_DRAWN: Final = frozenset({DeviceClass.VIRTUAL_MACHINE, DeviceClass.UNKNOWN})
_SYSTEMS: Final = {
    source: source.partition("_")[0] for sources in SOURCES_OF_SYSTEM.values() for source in sources
}


class PlannedUnit(NamedTuple):
    """One machine of a study."""

    plug: int
    """Number on the sticker of its plug, from 1."""
    agent_id: str
    device_class: str
    system: str


@dataclass(frozen=True, slots=True)
class PlugPlan:
    """Plan of a study, written before its first reading."""

    first: str
    """ISO date of a Monday."""
    seed: int
    population: str
    drawn_from: int
    """Machines that could have been drawn."""
    units: tuple[PlannedUnit, ...]
    method_version: str = METHOD_VERSION

    @property
    def days(self) -> tuple[date, date]:
        """First day, and the day after the last."""
        first = date.fromisoformat(self.first)
        return first, first + timedelta(weeks=WEEKS)

    @property
    def of_people(self) -> bool:
        """True when the rule of k machines holds: docs/privacy.md §3."""
        return Population(self.population) not in EXEMPT

    def content(self) -> str:
        """Return the content of its file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_plan(file: Path) -> tuple[PlugPlan, str]:
    """Return a plan, and the SHA-256 of its file. Raises UsageError unless it is as it was written."""
    content = read_content(file, _MAX_BYTES, "name the file that 'veilleuse plugs plan' wrote")
    try:
        facts = json.loads(content)
        plan = PlugPlan(**facts | {"units": tuple(PlannedUnit(*one) for one in facts["units"])})
        Population(plan.population)
        typed = all([type(part) for part in one] == [int, str, str, str] for one in plan.units)
        if plan.content().encode() != content or plan.days[0].weekday() or not typed:
            raise ValueError("it was changed")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UsageError(
            f"{file} is not as 'veilleuse plugs plan' wrote it: restore it; name machines that dropped out with "
            "--leave-out"
        ) from error
    return plan, hashlib.sha256(content).hexdigest()


def draw_plan(
    hosts: Sequence[Host],
    first: date,
    population: Population,
    classes: frozenset[DeviceClass],
    plugs: int,
    seed: int,
) -> PlugPlan:
    """Draw the machines of a study. Raises UsageError when there are too few."""
    heard = clock.unix_milliseconds() - HEARD_DAYS * MILLISECONDS_PER_DAY
    strata: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for host in hosts:
        device_class, system = host.facts.device_class, system_of(host)
        if (
            host.status is HostStatus.ACTIVE
            and host.population is population
            and device_class in classes - _NOT_DRAWN
            and (host.last_contact_unix_milliseconds or 0) >= heard
            and system
        ):
            strata[device_class.value, system].append(host.agent_id.hex())
    number = sum(map(len, strata.values()))
    if number < plugs:
        raise UsageError(
            f"only {number} {plural(number, 'machine')} can be drawn for {plugs} plugs: of population {population}, "
            f"active, not virtual, of known class and system, heard of in the last {HEARD_DAYS} days; give fewer "
            "--plugs, or enrol more"
        )
    return PlugPlan(first.isoformat(), seed, population.value, number, tuple(_draw(strata, plugs, seed)))


def _draw(strata: Mapping[tuple[str, str], list[str]], plugs: int, seed: int) -> Iterator[PlannedUnit]:
    """Yield one machine of each stratum in turn, the largest stratum first."""
    order = sorted(strata, key=lambda key: (-len(strata[key]), key))
    turns = [
        (turn, place, agent_id)
        for place, key in enumerate(order)
        for turn, agent_id in enumerate(sorted(strata[key], key=lambda one: _rank(seed, one)))
    ]
    for plug, (_, place, agent_id) in enumerate(sorted(turns)[:plugs], 1):
        yield PlannedUnit(plug, agent_id, *order[place])


def _rank(seed: int, agent_id: str) -> bytes:
    return hashlib.sha256(f"{seed}/{agent_id}".encode()).digest()


def system_of(host: Host) -> str:
    """Return linux, windows or macos by the sources of its agent; empty when it named none yet."""
    names = [source.name for source in host.health.sources] if host.health else []
    return next((_SYSTEMS[name] for name in names if name in _SYSTEMS), "")


def read_hosts(file: Path, hosts: Iterable[Host]) -> list[Host]:
    """Return the machines of a file of agent ids. Raises UsageError with the row."""
    known, found = list(hosts), {}
    for row, line in enumerate(read_text(file, _MAX_BYTES, "write one agent id a line").splitlines(), 1):
        if word := line.partition("#")[0].strip():
            try:
                host = one_host(known, word)
            except AdminError as error:
                raise UsageError(f"{file}, row {row}: {error}") from error
            found[host.host_id] = host
    return list(found.values())


def read_counters(settings: CollectorSettings, plan: PlugPlan, file: Path) -> dict[int, list[Reading]]:
    """Return the readings of a file within the study, a day more or less. Raises UsageError."""
    first, end = plan.days
    low, high = _milliseconds(first - timedelta(days=1)), _milliseconds(end + timedelta(days=1))
    content = read_content(file, MAX_BYTES, "cut it by unit")
    found: dict[int, list[Reading]] = {}
    try:
        read = parse_readings(
            content,
            zone=ZoneInfo(settings.reporting.time_zone),
            now_unix_milliseconds=clock.unix_milliseconds(),
        )
        for name, readings in read.items():
            if name not in {str(one.plug) for one in plan.units}:
                raise UsageError(
                    f"row {readings[0].row}, column unit: '{name}' is no plug's number in the plan"
                )
            if readings[0].start == readings[0].end:
                raise UsageError("row 1: give energies: time and counter_kwh, or start, end and watt_hours")
            found[int(name)] = [one for one in readings if low <= one.start and one.end <= high]
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error
    return found


def compare_plugs(
    settings: CollectorSettings,
    plan: PlugPlan,
    counters: Mapping[int, Sequence[Reading]],
    left_out: Mapping[int, str],
    *,
    over: bool,
) -> dict[int, StudyUnit | str]:
    """Return plug → comparisons of its machine, or why there are none.

    `left_out`: plug → reason. `over`: the four weeks have ended.
    """
    found: dict[int, StudyUnit | str] = {}
    samples = Samples()
    first, end = plan.days
    with open_reader(settings.data_dir) as store:
        shares = {
            share.host_id: share.meter
            for share in store.metering.declarations().shares
            if share.valid_from < end and first <= share.valid_to
        }
    with open_references(settings) as (reader, hosts):
        known = {host.agent_id.hex(): host for host in hosts if host.population.value == plan.population}
        for planned in plan.units:
            plug, host = planned.plug, known.get(planned.agent_id)
            if plug in left_out:
                found[plug] = f"left out: {left_out[plug]}"
            elif host is None:
                found[plug] = "removed since, or enrolled in another population"
            elif host.host_id in shares:
                found[plug] = (
                    f"refused: it has a share of meter {shares[host.host_id]}; a plug of a study feeds one machine "
                    "alone, without a screen"
                )
            else:
                share_ppm = round(settings.derive.laptop_plugged_share * MILLION)
                found[plug] = unit = StudyUnit(planned.device_class, planned.system, host.facts, share_ppm)
                readings, records = counters.get(plug, ()), _records(reader, host, plan)
                if host.population is Population.WORKSTATION:
                    readings = _whole_weeks(unit, readings, ZoneInfo(settings.reporting.time_zone))
                elif (hardware := Hardware.of(host.facts)) is not None:
                    metered_samples(samples, hardware, str(plug), host.facts, records)
                unit.compare_records(records, over=over)
                unit.compare_readings(readings, records, (end - first).days * MILLISECONDS_PER_DAY * over)
    predicted = leave_one_out(samples, Reference("meters", "plug", METER_U_PPM))
    for plug, one in found.items():
        if isinstance(one, StudyUnit) and one.hours(StudyTime.ON) and str(plug) in predicted:
            one.found[StudyTime.ON, Method.COUNTER_CALIBRATED] = predicted[str(plug)]
    return found


def _records(reader: ReferenceReader, host: Host, plan: PlugPlan) -> list[StoredRecord]:
    """Return the records of a study in order of time.

    The last reading of a plug is of the morning after: clock records of that day are needed too.
    """
    first, end = plan.days
    if host.population is Population.WORKSTATION:
        return sorted(dated_records(reader, host, ReferenceQuery("", first, end)), key=itemgetter(0))
    return list(clock_records(reader, host, ReferenceQuery("", first, end + timedelta(days=1))))


def _whole_weeks(unit: StudyUnit, readings: Sequence[Reading], zone: ZoneInfo) -> list[Reading]:
    """Return the readings from Monday to Monday, as of midnight: a PC's records are days and ISO weeks."""
    found = []
    for one in readings:
        first, end = (
            datetime.fromtimestamp(at / MILLISECONDS_PER_SECOND, zone).date() for at in (one.start, one.end)
        )
        if first.weekday() == end.weekday() == 0:
            found.append(one._replace(start=_milliseconds(first), end=_milliseconds(end)))
    if readings and not found:
        unit.notes.append("its readings do not go from Monday to Monday, as its records do")
    return found


def _milliseconds(day: date) -> int:
    return (day.toordinal() - UNIX_EPOCH_DAY) * MILLISECONDS_PER_DAY
