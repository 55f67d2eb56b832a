# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the result of `veilleuse-agent selftest`: a document without any name, a summary, a row of a table.

Texts from elsewhere are cleaned: no path of a person's folder, no address, no name of user or machine.
"""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from veilleuse.agent import clock
from veilleuse.agent.host.facts import parts_here
from veilleuse.agent.host.graphics import graphics_here
from veilleuse.agent.host.machine import Machine
from veilleuse.agent.model import Point, Tick
from veilleuse.agent.platforms import SYSTEM, here
from veilleuse.agent.polling.worker import SourceStatus
from veilleuse.agent.ports import SeesMore
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import Sources
from veilleuse.wire.limits import DISPLAY_SIZES, fact_text
from veilleuse.wire.units import MICROJOULES_PER_JOULE, MILLISECONDS_PER_SECOND, MILLIWATTS_PER_WATT
from veilleuse.wire.version import VERSION
from veilleuse.wire.vocabulary import PointKind, State, Supply

ABOUT: Final = (
    "veilleuse-agent selftest: what the sources of this machine read, against which state of the machine.",
    "Nothing was sent. Read this file, then send it yourself to your Veilleuse contact.",
    "It names no person and no machine: no host name, user, serial number, network address, machine id or folder.",
)
PSYS_TO_BATTERY: Final = 1.2
"""Bound of the collector's rule: docs/methodology.md section 1, rejection of psys by the battery."""
_PUBLIC_ROOTS: Final = ("/sys", "/proc", "/dev", "/run/veilleuse", "/var/run/veilleuse")
_PATH: Final = re.compile(r"(?:[A-Za-z]:|\\\\[?.]?)\\[^\s'\",;]*|(?<![\w.])/[^\s'\",;:]+")
_ADDRESS: Final = re.compile(
    r"(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?|(?:[0-9A-Fa-f]{2}[:-]){5,}[0-9A-Fa-f]{2}|\[?[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){3,}\]?"
    r"|[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}"
)
_LEFT_OUT: Final = "…"


class CounterHistory:
    """Behaviour of one counter over the whole test."""

    __slots__ = ("reads", "resets", "smallest_step_microjoules", "unchanged", "wraps")

    def __init__(self) -> None:
        self.reads = self.unchanged = self.wraps = self.resets = 0
        self.smallest_step_microjoules: int | None = None

    def note_step(self, microjoules: int) -> None:
        """Note the advance between two reads."""
        if not microjoules:
            self.unchanged += 1
        elif self.smallest_step_microjoules is None or microjoules < self.smallest_step_microjoules:
            self.smallest_step_microjoules = microjoules


class PolledValue(NamedTuple):
    """One value of a slow source at the end of a phase."""

    source: str
    point: Point
    milliwatts: float | None
    """None for the first value of a counter."""


class PhaseResult:
    """What was read in one phase."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ticks: tuple[Tick, ...] = ()
        self.failures: Counter[tuple[str, str]] = Counter()
        """(source, reason) → number of failed reads."""
        self.late_milliseconds: list[int] = []
        """Lateness of each tick."""
        self.polled: list[PolledValue] = []
        self.cpu_milliseconds = 0
        """CPU time of this process in the phase."""
        self.rss_bytes = 0


# ------------------------------------------------------------------------------------ the document


def build_document(
    settings: AgentSettings,
    machine: Machine,
    sources: Sources,
    results: Sequence[PhaseResult],
    counters: Mapping[Point, CounterHistory],
    polled: Sequence[SourceStatus],
) -> dict[str, Any]:
    """Return the result as JSON values, still without its row."""
    clean = Cleaner(settings)
    phases = [_phase(result, clean) for result in results]
    sysfs = str(settings.paths.sysfs)
    parts = parts_here(machine, sysfs)
    return {
        "about": list(ABOUT),
        "row": "",
        "date": clock.utc_date(),
        "agent_version": VERSION,
        "system": _system(),
        "machine": machine._asdict() | {"memory_modules": parts.memory_modules},
        "power_plan": parts.plan._asdict(),
        "graphics": [adapter._asdict() for adapter in graphics_here(sysfs)],
        "tick_seconds": settings.measure.tick_seconds,
        "sources": [*_sources(sources, clean), *_polled_sources(polled, clean)],
        "phases": phases,
        "counters": [_counter(point, history) for point, history in counters.items()],
        "plausibility": list(plausibility(phases)),
    }


class Cleaner:
    """Removes from a text what could name a person or a machine."""

    def __init__(self, settings: AgentSettings) -> None:
        """Take the folders that the settings name: tests and operators may have moved them."""
        paths = settings.paths
        self._renamed = {
            str(paths.sysfs): "/sys",
            str(paths.procfs): "/proc",
            str(paths.rapl_helper): "rapl_helper",
        }
        home = Path.home()
        names = {here.host_name(), here.host_name().partition(".")[0], home.name}
        self._names = [re.compile(re.escape(name), re.IGNORECASE) for name in names if len(name) > 2]

    def __call__(self, text: str) -> str:
        """Return the text without paths outside the system's own, addresses, host name and user."""
        for path, public in self._renamed.items():
            text = text.replace(path, public)
        text = _PATH.sub(lambda found: found[0] if found[0].startswith(_PUBLIC_ROOTS) else _LEFT_OUT, text)
        text = _ADDRESS.sub(_LEFT_OUT, text)
        for name in self._names:
            text = name.sub(_LEFT_OUT, text)
        return text


def _system() -> dict[str, Any]:
    """Return name and version of the operating system; a kernel's own suffix is left out."""
    release = re.match(r"[\d.]*", platform.version() if SYSTEM == "windows" else platform.release())
    distribution = None
    if SYSTEM == "linux":
        try:
            told = platform.freedesktop_os_release()
        except OSError:
            told = {}
        distribution = fact_text(f"{told.get('ID', '')} {told.get('VERSION_ID', '')}".strip())
    return {
        "name": SYSTEM,
        "release": release[0] if release else None,
        "distribution": distribution,
        "python": platform.python_version(),
        "as_root": os.geteuid() == 0 if hasattr(os, "geteuid") else None,
    }


def _sources(sources: Sources, clean: Cleaner) -> Iterator[dict[str, Any]]:
    for one in sources.opened:
        yield {
            "name": one.source.name,
            "available": True,
            "points": [label(point) for point in one.points],
            "not_counted": _not_counted(one.source, clean),
        }
    if sources.load is not None:
        yield {"name": sources.load.name, "available": True, "points": [], "not_counted": []}
    for missing in sources.unavailable:
        yield {
            "name": missing.name,
            "available": False,
            "word": missing.word,
            "reason": clean(missing.reason),
            "remedy": clean(missing.remedy),
            "not_counted": _not_counted(missing.source, clean),
        }


def _polled_sources(polled: Sequence[SourceStatus], clean: Cleaner) -> Iterator[dict[str, Any]]:
    """Yield the slow sources. The reason of a meter is left out: it may name the meter or its address."""
    for job, points, _, outcome in polled:
        yield {
            "name": job.source,
            "available": outcome.word == "ok",
            "word": outcome.word,
            "reason": "" if job.meter else clean(outcome.reason),
            "remedy": "" if job.meter else clean(outcome.remedy),
            "points": [label(point) for point in points],
            "not_counted": [],
        }


def _not_counted(source: object, clean: Cleaner) -> list[dict[str, str]]:
    if not isinstance(source, SeesMore):
        return []
    return [{"name": clean(name), "why": clean(why)} for name, why in source.not_counted()]


def label(point: Point) -> str:
    """Return a short name of a point. The name of a meter is left out: its operator chose it."""
    ours = point.kind not in (PointKind.PLUG, PointKind.PDU, PointKind.UPS, PointKind.BMC)
    return f"{point.kind} {point.domain} ({point.boundary})" if ours else f"{point.kind} ({point.boundary})"


def _phase(result: PhaseResult, clean: Cleaner) -> dict[str, Any]:
    milliseconds: dict[State | Supply, int] = {}
    for tick in result.ticks:
        for word in (tick.state, tick.supply):
            milliseconds[word] = milliseconds.get(word, 0) + tick.duration_milliseconds
    loads = [(tick.load.cpu_busy_ratio, tick.duration_milliseconds) for tick in result.ticks if tick.load]
    late = sorted(result.late_milliseconds)
    displays = [tick.displays_on for tick in result.ticks if tick.displays_on is not None]
    return {
        "name": result.name,
        "seconds": sum(tick.duration_milliseconds for tick in result.ticks) / MILLISECONDS_PER_SECOND,
        "states_seconds": _seconds(milliseconds, State),
        "supplies_seconds": _seconds(milliseconds, Supply),
        "processor_busy": _weighted(loads),
        "displays_on": {
            size: max(counts[place] for counts in displays)
            for place, size in enumerate(DISPLAY_SIZES)
            if displays
        },
        "points": [_point(point, result.ticks) for point in _points(result.ticks)],
        "polled": [_polled(value) for value in result.polled],
        "failures": [
            {"source": source, "reason": clean(reason), "reads": reads}
            for (source, reason), reads in sorted(result.failures.items())
        ],
        "ticks": len(late),
        "late_milliseconds": {"median": late[len(late) // 2], "largest": late[-1]} if late else None,
        "own_cpu_milliseconds": result.cpu_milliseconds,
        "own_rss_mib": round(result.rss_bytes / 2**20, 1),
    }


def _seconds(milliseconds: Mapping[State | Supply, int], kind: type) -> dict[str, float]:
    return {
        word.value: count / MILLISECONDS_PER_SECOND
        for word, count in milliseconds.items()
        if isinstance(word, kind)
    }


def _weighted(parts: Iterable[tuple[float, int]]) -> float | None:
    """Return the mean of (value, weight); None without any weight."""
    kept = list(parts)
    weight = sum(each for _, each in kept)
    return round(sum(value * each for value, each in kept) / weight, 4) if weight else None


def _points(ticks: Iterable[Tick]) -> list[Point]:
    return list(dict.fromkeys(energy.point for tick in ticks for energy in tick.energies))


def _point(point: Point, ticks: Sequence[Tick]) -> dict[str, Any]:
    """Return the power of a point: 1 mJ in 1 ms is 1 W."""
    found = [
        (energy.energy_millijoules, energy.covered_milliseconds)
        for tick in ticks
        for energy in tick.energies
        if energy.point == point and energy.covered_milliseconds
    ]
    watts = [energy / covered for energy, covered in found]
    covered = sum(each for _, each in found)
    awake = sum(tick.duration_milliseconds for tick in ticks if tick.state is not State.ASLEEP)
    return {
        "point": label(point),
        "values": len(found),
        "coverage": round(covered / awake, 4) if awake else None,
        "mean_watts": round(sum(energy for energy, _ in found) / covered, 3) if covered else None,
        "min_watts": round(min(watts), 3) if watts else None,
        "max_watts": round(max(watts), 3) if watts else None,
    }


def _polled(value: PolledValue) -> dict[str, Any]:
    watts = None if value.milliwatts is None else round(value.milliwatts / MILLIWATTS_PER_WATT, 3)
    return {"source": value.source, "point": label(value.point), "watts": watts}


def _counter(point: Point, history: CounterHistory) -> dict[str, Any]:
    step = history.smallest_step_microjoules
    return {
        "point": label(point),
        "reads": history.reads,
        "unchanged": history.unchanged,
        "wraps": history.wraps,
        "resets": history.resets,
        "smallest_step_joules": None if step is None else step / MICROJOULES_PER_JOULE,
    }


# ------------------------------------------------------------------------------------ plausibility


def plausibility(phases: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield checks of the values against each other; a check whose values were not read is left out."""
    for phase in phases:
        where = f"{phase['name']}, W"
        package, psys = _watts(phase, "package", "CPU_CLUSTER"), _watts(phase, "psys")
        battery = _watts(phase, "battery_out") if phase["supplies_seconds"].keys() == {"battery"} else None
        yield from _check(where, "package is at most psys", package, psys)
        limit = None if battery is None else battery * PSYS_TO_BATTERY
        yield from _check(where, "psys is at most 1.2 times the battery's discharge", psys, limit)
        parts = None if package is None else package + (_watts(phase, "dram") or 0.0)
        yield from _check(where, "package and memory are at most the battery's discharge", parts, battery)
    named = {phase["name"]: phase for phase in phases}
    if "idle" in named:
        states = named["idle"]["states_seconds"]
        seconds = (states.get(state.value, 0.0) for state in (State.ON_ACTIVE, State.ON_IDLE))
        yield from _check("idle, seconds", "time active is at most time idle", *seconds)
    if {"idle", "load"} <= named.keys():
        calm, busy = (_watts(named[name], "package", "CPU_CLUSTER") for name in ("idle", "load"))
        yield from _check("idle, load, W", "the package draws more under load", calm, busy)


def _watts(phase: Mapping[str, Any], *words: str) -> float | None:
    """Return the summed mean power of the points of a kind; None when none was read."""
    found = [
        point["mean_watts"]
        for point in phase["points"]
        if point["mean_watts"] is not None and any(f" {word}" in f" {point['point']}" for word in words)
    ]
    return sum(found) if found else None


def _check(phase: str, text: str, smaller: float | None, larger: float | None) -> Iterator[dict[str, Any]]:
    if smaller is not None and larger is not None:
        values = [round(smaller, 3), round(larger, 3)]
        yield {"phase": phase, "check": text, "holds": smaller <= larger, "values": values}


# ------------------------------------------------------------------------------------- for people


def row(document: Mapping[str, Any]) -> str:
    """Return the row of the table in docs/sources.md, in Markdown."""
    system, machine = document["system"], document["machine"]
    name = " ".join(filter(None, (system["name"], system["release"], system["distribution"])))
    words = (machine["vendor"], machine["model"], machine["cpu_model"])
    what = ", ".join([f"{machine['device_class']} ({machine['virtualisation']})", *filter(None, words)])
    read = "; ".join(_read_texts(document["phases"])) or "no power"
    words_of = (f"{one['name']}: {one['word']}" for one in document["sources"] if not one["available"])
    missing = ", ".join(dict.fromkeys(words_of))
    return f"| {name} | {what} | {read} | {missing or 'none'} | {document['date']} |"


def _read_texts(phases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the mean watts of each phase; of slow sources, those at its end."""
    for phase in phases:
        values = [(one["point"], one["mean_watts"]) for one in phase["points"]]
        values += [(one["point"], one["watts"]) for one in phase["polled"]]
        texts = [f"{name.partition(' (')[0]} {watts:.1f}" for name, watts in values if watts]
        if texts:
            yield f"{phase['name']}: {', '.join(texts)} W"


def summary_lines(document: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the result for the person who ran the test."""
    system = document["system"]
    yield f"{system['name']} {system['release']}, {document['machine']['device_class']}; agent {VERSION}"
    for one in document["sources"]:
        yield f"  {'+' if one['available'] else '-'} {one['name']}" + (
            ""
            if one["available"]
            else ": " + "; ".join(filter(None, (one["reason"] or one["word"], one["remedy"])))
        )
    for phase in document["phases"]:
        yield from _phase_lines(phase)
    for one in document["counters"]:
        odd = [f"{one[what]} {what}" for what in ("unchanged", "wraps", "resets") if one[what]]
        if odd:
            yield f"counter {one['point']}: of {one['reads']} reads {', '.join(odd)}"
    checks = document["plausibility"]
    yield f"{sum(check['holds'] for check in checks)} of {len(checks)} checks hold"
    for check in checks:
        if not check["holds"]:
            values = " and ".join(f"{value:.2f}" for value in check["values"])
            yield f"  NOT SO: {check['check']} ({check['phase']}: {values})"
    yield ""
    yield f"Written: {path}"
    yield "Nothing was sent. Read the file, then send it to your Veilleuse contact. Row for docs/sources.md:"
    yield document["row"]


def _phase_lines(phase: Mapping[str, Any]) -> Iterator[str]:
    states = ", ".join(f"{seconds:.0f} s {word}" for word, seconds in phase["states_seconds"].items())
    supplies = ", ".join(phase["supplies_seconds"])
    line = f"{phase['name']}: {states or 'nothing measured'}; supply {supplies or 'not known'}"
    if phase["processor_busy"] is not None:
        line += f"; processor {phase['processor_busy']:.0%} busy"
    if phase["displays_on"]:
        line += f"; external displays on: {sum(phase['displays_on'].values())}"
    yield line
    for point in phase["points"]:
        yield (
            f"    {point['point']}: {point['mean_watts']:.2f} W ({point['min_watts']:.2f} to {point['max_watts']:.2f}),"
            f" {point['coverage'] or 0:.0%} of the time"
        )
    for polled in phase["polled"]:
        watts = "first value" if polled["watts"] is None else f"{polled['watts']:.2f} W"
        yield f"    {polled['source']}, {polled['point']}: {watts}"
    for failure in phase["failures"]:
        yield f"    {failure['source']} failed {failure['reads']} times: {failure['reason']}"
    late = phase["late_milliseconds"]
    lateness = "" if late is None else f", ticks at most {late['largest']} ms late"
    yield f"    this command: {phase['own_cpu_milliseconds']} ms of processor, {phase['own_rss_mib']} MiB{lateness}"
