# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent show`: prints in clear the data that leaves this machine, for its user."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError

from veilleuse.agent.commands.language import print_lines
from veilleuse.agent.commands.plain_text import period_text, plain, record_lines, utc_text
from veilleuse.agent.commands.state_view import (
    QuarantineEntry,
    SpoolView,
    measured_population,
    read_identity,
    read_quarantine,
    read_spool,
)
from veilleuse.agent.errors import AgentError
from veilleuse.agent.host.facts import own_facts
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.spool.database import parse_whole_number
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

NEVER_SENT: Final = (
    "user names",
    "sessions",
    "process names and command lines",
    "window titles",
    "files and addresses visited",
    "keyboard and pointer",
    "location",
    "serial numbers",
)
"""Source: docs/privacy.md §1."""
GRAIN: Final = {
    Population.WORKSTATION: "closed hours: one total per day; open hours: one total per week; no time of day",
    Population.CLASSROOM: "one total per hour",
    Population.SERVER: "one total per period of 10 s to 1 h (5 min by default): as set on this machine, "
    "longer where the collector asks",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --json, --quarantine."""
    parser.add_argument("--json", action="store_true", help="for a machine")
    parser.add_argument(
        "--quarantine", action="store_true", help="the records the collector refused, and why, instead"
    )


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0.

    Raises AgentError for an unreadable spool, as nothing could be said about the data that leaves.
    """
    if parsed.quarantine:
        return _show_quarantine(read_quarantine(settings), as_json=parsed.json)
    spool = read_spool(settings)
    if spool.trouble and not spool.missing:
        raise AgentError(spool.trouble)
    identity, no_identity = read_identity(settings)
    population = measured_population(settings, spool)
    facts = own_facts(settings)
    last = last_record(spool)
    sent = pb.Record.FromString(spool.newest_acknowledged) if spool.newest_acknowledged else None
    result: dict[str, Any] = {
        "agent_id": identity.agent_id.hex() if identity else None,
        "no_identity": no_identity or None,
        "population": population.value,
        "grain": GRAIN[population],
        "never_sent": list(NEVER_SENT),
        "facts": plain(facts),
        "last_record": plain(last) if last is not None else None,
        "last_sent": plain(sent) if sent is not None else None,
        "records_waiting": spool.pending + spool.unacknowledged,
        "standing": spool.control.get(ControlKey.STANDING),
        "next_send_unix_milliseconds": _parse_time(spool.control.get(ControlKey.NEXT_SEND)),
    }
    if parsed.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        print_lines(_lines(result, last, sent))
    return 0


def _show_quarantine(kept: list[QuarantineEntry], *, as_json: bool) -> int:
    """Print the refused records; a gap was sent in the place of each."""
    rows = [(one, _decode(one.wire)) for one in kept]
    if as_json:
        result = [
            {
                "seq": one.seq,
                "epoch": one.epoch,
                "reason": one.reason,
                "bytes": len(one.wire),
                "record": None if record is None else plain(record),
            }
            for one, record in rows
        ]
        print(json.dumps(result, ensure_ascii=False, indent=2))
        return 0
    if not rows:
        print_lines(["Nothing in quarantine: the collector refused no record."])
    for one, record in rows:
        told = ["not readable"] if record is None else record_lines(record)
        title = f"Record {one.seq} of stream {one.epoch}, refused: {one.reason}"
        print_lines([title, *(f"  {line}" for line in told)])
    return 0


def _decode(wire: bytes) -> pb.Record | None:
    try:
        return pb.Record.FromString(wire)
    except DecodeError:
        return None


def last_record(spool: SpoolView) -> pb.Record | None:
    """Return the newest record, sent or not."""
    if spool.newest_pending is not None:
        return pb.Record.FromString(WireEncoder().encode(spool.newest_pending))
    newest = spool.newest_unacknowledged or spool.newest_acknowledged
    return pb.Record.FromString(newest) if newest else None


def _lines(result: dict[str, Any], last: pb.Record | None, sent: pb.Record | None) -> Iterator[str]:
    if result["agent_id"]:
        yield f"This machine is known to its collector as {result['agent_id']}."
    else:
        yield f"Nothing leaves it: {result['no_identity']}."
    yield f"It measures as {result['population']}: {result['grain']}."
    yield f"Never sent: {', '.join(NEVER_SENT)}."
    yield ""
    yield "Said about the machine, when it changes:"
    for name, value in result["facts"].items():
        yield f"  {name}: {value}"
    yield ""
    yield from _record("The last record:", last, "none has been closed yet")
    same = last is not None and sent is not None and last == sent
    if same:
        yield "It is also the last one sent."
    else:
        yield from _record("The last one sent:", sent, "nothing has been sent")
    yield ""
    yield (
        f"Waiting: {result['records_waiting']} record(s). Standing: {result['standing'] or 'no contact yet'}."
    )
    if result["next_send_unix_milliseconds"] and result["population"] != "workstation":
        yield f"Next contact: {utc_text(result['next_send_unix_milliseconds'])}."


def _record(title: str, record: pb.Record | None, none: str) -> Iterator[str]:
    yield title if record is not None else f"{title} {none}."
    if record is not None:
        for line in record_lines(record):
            yield f"  {line}"


def _parse_time(text: str | None) -> int | None:
    return parse_whole_number(text) or None


__all__ = ["add_arguments", "last_record", "period_text", "run"]
