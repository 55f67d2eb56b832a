# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent doctor`.

Reports what this machine can measure, faults, remedies, identity, network, spool and clock.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Set
from typing import Any, Final

from veilleuse.agent import clock
from veilleuse.agent.commands import doctor_network, doctor_spool, poll
from veilleuse.agent.commands.language import print_lines
from veilleuse.agent.commands.plain_text import seconds_text, utc_text
from veilleuse.agent.commands.state_view import SpoolView, measured_population, read_identity, read_spool
from veilleuse.agent.errors import AgentError
from veilleuse.agent.host.graphics import graphics_here
from veilleuse.agent.host.hardware_ids import MACHINE_ID, require_machine_id
from veilleuse.agent.host.machine import Machine
from veilleuse.agent.identity.store import Identity
from veilleuse.agent.model import Point
from veilleuse.agent.ports import ControlKey, SeesMore
from veilleuse.agent.resident.open_sources import open_sources
from veilleuse.agent.resident.state import LastSign, is_plausible
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import BUILTIN, NOT_BY_DEFAULT, Sources
from veilleuse.agent.spool.database import parse_counts, parse_whole_number
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_MINUTE
from veilleuse.wire.vocabulary import Boundary, PointKind

EXIT_WARNINGS: Final = 3
MACHINE: Final = "machine"
"""Subject of a point that belongs to this machine only; `meter:…` is the subject of a shared one."""
SILENCE_MILLISECONDS: Final = 15 * MILLISECONDS_PER_MINUTE
"""Three checkpoints of a PC (5 min): a service that runs has said something since."""
_COUNTERS: Final = frozenset(
    {PointKind.RAPL, PointKind.EMI, PointKind.POWERMETRICS, PointKind.HWMON, PointKind.GPU}
)
_MEANING: Final = {
    Method.METERED: "a meter sees the whole machine at the wall",
    Method.BATTERY: "the battery sees the whole machine while it runs on it",
    Method.COUNTER_CALIBRATED: "hardware counters, calibrated for this model by a meter",
    Method.COUNTER_MODELLED: "hardware counters, and a model of the rest of the machine",
    Method.LOAD_MODELLED: "a model from the load",
    Method.CLASS_DEFAULT: "the default of the device class",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="for a machine")


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0 when all is well, 3 when there are warnings."""
    now = clock.unix_milliseconds()
    machine, sources = open_sources(settings)
    sources.close()
    polled = poll.try_polled_sources(settings)
    sources = poll.join_sources(sources, polled)
    identity, no_identity = read_identity(settings)
    spool = read_spool(settings)
    result: dict[str, Any] = {
        "machine": machine._asdict(),
        "graphics": [adapter._asdict() for adapter in graphics_here(str(settings.paths.sysfs))],
        "sources": source_rows(sources, polled),
        "ladder": ladder(sources, machine),
        "identity": _identity(settings, identity, no_identity, now)
        | {"measures_as": measured_population(settings, spool).value},
        "network": doctor_network.rows(settings, identity),
        "spool": _spool(spool),
        "clock": _clock(identity, now),
        "room": doctor_spool.room(settings, spool) if not spool.trouble else None,
        "versions": doctor_spool.versions(spool),
        "configuration": doctor_spool.configuration(settings, spool),
        "warnings": list(_warnings(settings, sources, identity, no_identity, spool, now)),
    }
    result["warnings"] += poll.warnings(polled)
    result["warnings"] += doctor_network.warnings(result["network"], enrolled=identity is not None)
    if result["room"] is not None:
        result["warnings"] += doctor_spool.warnings(result)
    if parsed.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        print_lines(_lines(result))
    return EXIT_WARNINGS if result["warnings"] else 0


def source_rows(sources: Sources, polled: poll.PollResult) -> list[dict[str, Any]]:
    """Build one row per source: its points, or the reason and remedy; also the readings it does not count."""
    tried_now = poll.rows(polled)
    apart = {row["name"] for row in tried_now}
    rows: list[dict[str, Any]] = [
        _row(one.source.name, [_point(point) for point in one.points]) | _not_counted(one.source)
        for one in sources.opened
        if one.source.name not in apart
    ]
    if sources.load is not None:
        rows.append(_row(sources.load.name, []))
    rows += [
        _row(one.name, [], available=False, word=one.word, reason=one.reason, remedy=one.remedy)
        | _not_counted(one.source)
        for one in sources.unavailable
        if one.name not in apart
    ]
    tried = {row["name"] for row in rows} | {poll.RESIDENT_SOURCE}
    rows += [
        _row(name, [], available=False, word="not_chosen", reason="measure.sources does not name it")
        for name in BUILTIN
        if name not in tried and name not in NOT_BY_DEFAULT
    ]
    return rows + tried_now


def ladder(sources: Sources, machine: Machine) -> list[dict[str, Any]]:
    """List the methods, best first, with their availability and reason; the first available one is in use.

    The collector decides in the end: only the collector knows shared meters and calibrations.
    """
    points = [point for one in sources.opened for point in one.points]
    counters = [p for p in points if p.kind in _COUNTERS and p.boundary is not Boundary.WALL]
    battery = any(point.kind is PointKind.BATTERY_OUT for point in points)
    if counters:
        seen = ", ".join(f"{point.kind} {point.domain}" for point in counters)
        calibrated = f"{seen}: once machines of this model are calibrated on the collector"
        counted = f"{seen}, and a model of the rest for its device class"
    else:
        calibrated = counted = _why_not(sources, _COUNTERS)
    load = sources.load is not None
    load_reason = (
        "utilisation and state are measured"
        if load
        else _joined(one.reason for one in sources.unavailable if one.name == "utilisation")
    )
    if load and machine.virtualisation not in ("none", "container"):
        load_reason += "; a virtual machine is a memo line, its energy is already in its host's"
    rows = (
        (
            Method.METERED,
            any(p.boundary is Boundary.WALL and p.subject == MACHINE for p in points),
            _no_meter([p for p in points if p.boundary is Boundary.WALL]),
        ),
        (Method.BATTERY, battery, _why_not(sources, {PointKind.BATTERY_OUT})),
        (Method.COUNTER_CALIBRATED, False, calibrated),
        (Method.COUNTER_MODELLED, bool(counters), counted),
        (Method.LOAD_MODELLED, load, load_reason),
        (Method.CLASS_DEFAULT, True, f"device class {machine.device_class}"),
    )
    place = next(method for method, allowed, _ in rows if allowed)
    return [
        {
            "method": method.value,
            "meaning": _MEANING[method],
            "available": allowed,
            "reason": _MEANING[method] if allowed and method in (Method.METERED, Method.BATTERY) else reason,
            "place": method is place,
        }
        for method, allowed, reason in rows
    ]


def _no_meter(wall: list[Point]) -> str:
    """Explain why no meter measures this machine alone, given the shared ones."""
    if not wall:
        return "no meter sees this machine at the wall"
    shared = ", ".join(point.domain for point in wall)
    return (
        f"shared with others: {shared}; the collector gives this machine its share, once it is told who "
        "shares"
    )


def _identity(settings: AgentSettings, identity: Identity | None, reason: str, now: int) -> dict[str, Any]:
    if identity is None:
        return {"enrolled": False, "reason": reason}
    return {
        "enrolled": True,
        "agent_id": identity.agent_id.hex(),
        "address": settings.collector.address or identity.place.address,
        "org_entity": identity.place.org_entity,
        "site": identity.place.site,
        "population": identity.place.population,
        "ca_pinned": identity.place.ca_pinned or bool(settings.collector.ca_sha256),
        "certificate_not_after_unix_milliseconds": identity.not_after_unix_milliseconds,
        "certificate_expired": now >= identity.not_after_unix_milliseconds,
        "certificate_renews_unix_milliseconds": identity.renewal_due_unix_milliseconds(),
        "certificate_renewal_due": now >= identity.renewal_due_unix_milliseconds(),
    }


def _clock(identity: Identity | None, now: int) -> dict[str, Any]:
    """Check the clock. `plausible` is False before the start of the certificate, or for an impossible date.

    A certificate starts when it is created, or on that day, so an earlier clock is wrong.
    """
    behind = 0 if identity is None else max(0, identity.not_before_unix_milliseconds - now)
    return {
        "unix_milliseconds": now,
        "plausible": is_plausible(now) and not behind,
        "behind_certificate_milliseconds": behind,
    }


def _spool(spool: SpoolView) -> dict[str, Any]:
    next_send = spool.control.get(ControlKey.NEXT_SEND)
    return {
        "path": str(spool.path),
        "trouble": spool.trouble or None,
        "size_bytes": spool.size_bytes,
        "records_waiting": spool.pending + spool.unacknowledged,
        "records_kept_after_acknowledgement": spool.ring,
        "quarantine": spool.quarantine,
        "quarantine_bytes": spool.quarantine_bytes,
        "drops": parse_counts(spool.control.get(ControlKey.DROPS)),
        "standing": spool.control.get(ControlKey.STANDING),
        "failures": parse_whole_number(spool.control.get(ControlKey.FAILURES)),
        "next_send_unix_milliseconds": parse_whole_number(next_send) or None,
    }


def _warnings(
    settings: AgentSettings,
    sources: Sources,
    identity: Identity | None,
    no_identity: str,
    spool: SpoolView,
    now: int,
) -> Iterator[str]:
    for one in sources.unavailable:
        if one.word in ("no_permission", "missing_library"):
            yield f"{one.name}: {one.reason}" + (f"; {one.remedy}" if one.remedy else "")
    if sources.load is None:
        yield "utilisation cannot be measured: no state can be told"
    try:
        require_machine_id(MACHINE_ID)
    except AgentError as error:
        yield str(error)
    if not is_plausible(now):
        yield "the clock is not plausible: records wait undated until it is set"
    elif identity is not None and now < identity.not_before_unix_milliseconds:
        begin = identity.not_before_unix_milliseconds
        yield (
            f"the clock is at least {seconds_text(begin - now)} behind: the certificate begins at "
            f"{utc_text(begin)}; "
            "set the clock and have it synchronised, records are dated too early until then"
        )
    if identity is None:
        yield no_identity
    elif now >= identity.not_after_unix_milliseconds:
        yield "the certificate has expired: the next contact renews it with the old key"
    if spool.trouble:
        yield spool.trouble
        return
    standing = spool.control.get(ControlKey.STANDING)
    if parse_whole_number(spool.control.get(ControlKey.FAILURES)) and standing:
        yield f"nothing is delivered: {standing}"
    yield from _not_for_the_service(sources, spool)
    if spool.quarantine:
        yield (
            f"{spool.quarantine} record(s) in quarantine: the collector refused them, `veilleuse-agent show "
            "--quarantine`"
        )
    yield from _silence(spool, now)


def _not_for_the_service(sources: Sources, spool: SpoolView) -> Iterator[str]:
    """Warn of sources that the caller, often root, may read, but the account of the service may not."""
    readable = {one.source.name for one in sources.opened}
    for row in spool.sources:
        if row.get("unavailable") == "no_permission" and row.get("name") in readable:
            what = "; ".join(filter(None, (row.get("reason"), row.get("remedy"))))
            yield (
                f"{row['name']}: you may read it, the service could not when it last looked: {what}; "
                "it looks again within the hour, and when it is restarted"
            )


def _silence(spool: SpoolView, now: int) -> Iterator[str]:
    last = spool.control.get(ControlKey.LAST_SIGN)
    if last is None:
        yield "the service has never run here: start `veilleuse-agent run`"
        return
    try:
        silent = now - LastSign.from_json(last).instant.unix_milliseconds
    except ValueError:
        yield "the last sign of life of the service is damaged: it writes another one while it runs"
        return
    if silent > SILENCE_MILLISECONDS:
        yield f"the service has said nothing for {seconds_text(silent)}: is `veilleuse-agent run` running?"


def _row(
    name: str,
    points: list[dict[str, str]],
    *,
    available: bool = True,
    word: str = "",
    reason: str = "",
    remedy: str = "",
) -> dict[str, Any]:
    return {
        "name": name,
        "available": available,
        "points": points,
        "reason": reason,
        "remedy": remedy,
        "word": word,
    }


def _point(point: Point) -> dict[str, str]:
    return {
        "kind": point.kind.value,
        "domain": point.domain,
        "boundary": point.boundary.value,
        "subject": point.subject,
    }


def _not_counted(source: object) -> dict[str, Any]:
    """List the readings that a source does not count; empty for a source that counts all."""
    if not isinstance(source, SeesMore):
        return {}
    return {"not_counted": [{"name": name, "why": why} for name, why in source.not_counted()]}


def _why_not(sources: Sources, kinds: Set[PointKind]) -> str:
    """Reasons of the sources that could offer a point of these kinds (`KINDS` of their classes)."""
    return _joined(one.reason for one in sources.unavailable if kinds & set(getattr(one.source, "KINDS", ())))


def _joined(reasons: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(reasons)) or "no source for it is in use"


# ----------------------------------------------------------------------------------- for people


def _lines(result: dict[str, Any]) -> Iterator[str]:
    machine = result["machine"]
    what = [machine["vendor"], machine["model"], machine["cpu_model"]]
    yield f"Machine: {machine['device_class']}, virtualisation {machine['virtualisation']}" + "".join(
        f", {word}" for word in what if word
    )
    for adapter in result["graphics"]:
        memory = adapter["memory_bytes"] and f"{adapter['memory_bytes'] / 2**30:.3g} GiB"
        told = ", ".join(filter(None, (adapter["name"], memory)))
        yield f"Graphics: {adapter['model']}" + (f" ({told})" if told else "")
    yield ""
    yield "Sources:"
    yield from _source_lines(result["sources"])
    if not any(row["points"] for row in result["sources"]):
        yield "  Energy is not measured on this machine; utilisation and state are what it sends."
    yield ""
    yield "How its energy will be known, best first:"
    for row in result["ladder"]:
        mark = ">" if row["place"] else "+" if row["available"] else "-"
        yield f"  {mark} {row['method']}: {row['reason']}"
    yield ""
    yield from _identity_lines(result["identity"])
    if result["network"]:
        yield from doctor_network.lines(result["network"])
    yield from _spool_lines(result["spool"])
    if result["room"] is not None:
        yield from doctor_spool.lines(result)
    yield (
        f"Clock: {utc_text(result['clock']['unix_milliseconds'])}, "
        f"{'plausible' if result['clock']['plausible'] else 'not plausible'}"
    )
    yield ""
    for warning in result["warnings"]:
        yield f"Warning: {warning}"
    if not result["warnings"]:
        yield "Nothing to do."


def _source_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line per source; missing sources with the same reason share one line."""
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["available"]:
            points = ", ".join(
                f"{p['kind']} {p['domain']} ({p['boundary']}{'' if p['subject'] == MACHINE else ', shared'})"
                for p in row["points"]
            )
            now = "; ".join(filter(None, map(poll.watts_text, row.get("readings", ()))))
            yield f"  + {row['name']}: {points or 'works'}" + (f", {now} now" if now else "")
            yield from _not_counted_lines(row)
        else:
            alike.setdefault((row["reason"], row["remedy"]), []).append(row)
    for (reason, remedy), missing in alike.items():
        yield f"  - {', '.join(row['name'] for row in missing)}: {reason}"
        if remedy:
            yield f"      remedy: {remedy}"
        for row in missing:
            yield from _not_counted_lines(row)


def _not_counted_lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield one line per reason for readings that are not counted."""
    alike: dict[str, list[str]] = {}
    for one in row.get("not_counted", ()):
        alike.setdefault(one["why"], []).append(one["name"])
    for why, names in alike.items():
        yield f"      not counted: {', '.join(names)}: {why}"


def _identity_lines(identity: dict[str, Any]) -> Iterator[str]:
    if not identity["enrolled"]:
        yield f"Identity: none; it measures as {identity['measures_as']}"
        return
    yield (
        f"Identity: {identity['agent_id']}, {identity['population']} of {identity['org_entity']}, site "
        f"{identity['site']}"
    )
    if identity["measures_as"] != identity["population"]:
        yield f"  it measures as {identity['measures_as']}: measure.population is the more private one"
    end = identity["certificate_not_after_unix_milliseconds"]
    left = (end - clock.unix_milliseconds()) / MILLISECONDS_PER_DAY
    yield f"  sends to {identity['address']}; certificate until {utc_text(end)} ({left:.1f} days)"
    yield f"  renewed at a contact from {utc_text(identity['certificate_renews_unix_milliseconds'])} on"
    if not identity["ca_pinned"]:
        yield "  its CA came with the join file and is trusted for that; collector.ca_sha256 would pin it"


def _spool_lines(spool: dict[str, Any]) -> Iterator[str]:
    if spool["trouble"]:
        yield f"Spool: {spool['trouble']}"
        return
    yield (
        f"Spool: {spool['records_waiting']} record(s) waiting, {spool['size_bytes']} bytes at {spool['path']}"
    )
    yield f"  standing: {spool['standing'] or 'no contact yet'}"
    yield f"  quarantine: {spool['quarantine']} record(s), {spool['quarantine_bytes']} bytes"
