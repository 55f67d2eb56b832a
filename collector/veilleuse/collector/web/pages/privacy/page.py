# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the public page about privacy: what leaves a machine, with simulated messages read field by field.

It reads no store and no setting of this collector: it is the same on every installation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Final

from veilleuse.collector.documents.text import Words, words
from veilleuse.collector.model.accounts import JOURNAL_DAYS
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.parts import Grid, Head, cells
from veilleuse.collector.web.pages.privacy.messages import (
    fields_set,
    inline,
    meaning_of,
    message_grid,
    messages_sent,
    size,
)
from veilleuse.wire.settings_file import describe
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

PATH: Final = "/confidentialite"
_POPULATIONS: Final = (Population.WORKSTATION, Population.CLASSROOM, Population.SERVER)
_KEPT: Final = (
    "pc_days",
    "pc_months",
    "groups",
    "servers",
    "names",
    "readers",
    "operators",
    "machine",
    "backups",
)
_LONGEST: Final = {
    "days": "retention.pc_daily_days",
    "months": "retention.pc_monthly_months",
    "records": "retention.server_records_months",
    "daily": "retention.server_daily_months",
}
"""Name in the texts → setting, whose largest value is shown."""
_K: Final = "reporting.k_anonymity"


@dataclass(frozen=True, slots=True)
class ExampleMachine:
    """All that one simulated machine sends in a day."""

    identifier: str
    text: str
    size: str
    hello: Grid
    push: Grid
    records: tuple[Grid, ...]
    """All records where there are few; else the longest."""
    others: str
    """Name of the other records; empty without any."""
    lines: tuple[str, ...]
    """The other records, one each: half a megabyte of a server's, and so shown where they are asked for."""


@dataclass(frozen=True, slots=True)
class PrivacyPage:
    """Values of the template."""

    k: int
    never: tuple[str, ...]
    rule: tuple[str, ...]
    """Sentences about the rule of disclosure."""
    finely: Grid
    kept: Grid
    machines: tuple[ExampleMachine, ...]
    fields: int
    dictionary: tuple[Grid, ...]


async def privacy(look: Look) -> Mapping[str, object]:
    """Build the page."""
    records = look.choice("records", ("none", *(one.value for one in _POPULATIONS)))
    return {"page": privacy_page(look.w.language), "records": records}


@cache
def privacy_page(language: str) -> PrivacyPage:
    """Build the page in a language, once."""
    w, bounds = words(language), _bounds()
    examples = _examples()
    dictionary = tuple(_dictionary(examples, w))
    return PrivacyPage(
        bounds["k"],
        tuple(w.texts["privacy"]["never"]),
        tuple(one.format(k=bounds["k"]) for one in w.texts["privacy"]["rule"]),
        _finely(w),
        _kept(bounds, w),
        tuple(_machine(one, *examples[one.value], w) for one in _POPULATIONS),
        sum(len(grid.rows) for grid in dictionary),
        dictionary,
    )


def _bounds() -> dict[str, int]:
    """Return the least k, and the longest times that the settings allow."""
    found = {one.dotted: one for one in describe(CollectorSettings)}
    longest = {name: int(found[dotted].maximum or 0) for name, dotted in _LONGEST.items()}
    return {"k": int(found[_K].minimum or 0), "journal": JOURNAL_DAYS, **longest}


def _examples() -> dict[str, tuple[date, Any, Any]]:
    """Return population → (day, Hello, Push) of the simulated machines."""
    text = files("veilleuse.collector").joinpath("data", "simulated_messages.json").read_text("utf-8")
    found = {}
    for population, one in json.loads(text).items():
        hello, push = (base64.b64decode(message["wire"]) for message in one["messages"])
        parsed = pb.HelloRequest.FromString(hello), pb.PushRequest.FromString(push)
        found[population] = (date.fromisoformat(one["day"]), *parsed)
    return found


def _finely(w: Words) -> Grid:
    heads = tuple(Head(w(f"privacy.{one}")) for one in ("population", "period", "contact", "why"))
    rows = tuple(
        cells(w(f"privacy.{one}"), *(w(f"privacy.{one}_{part}") for part in ("period", "contact", "why")))
        for one in (population.value for population in _POPULATIONS)
    )
    return Grid(w("privacy.finely_caption"), heads, rows)


def _kept(bounds: Mapping[str, int], w: Words) -> Grid:
    heads = tuple(Head(w(f"privacy.{one}")) for one in ("what", "who", "long"))
    rows = tuple(
        cells(*(w(f"privacy.{one}{part}", **bounds) for part in ("", "_who", "_long"))) for one in _KEPT
    )
    return Grid(w("privacy.kept_caption"), heads, rows)


_ALL: Final = 3
"""Most records of a day that are all shown as tables."""


def _machine(population: Population, day: date, hello: Any, push: Any, w: Words) -> ExampleMachine:
    records = [pb.Record.FromString(one) for one in push.records]
    order = range(len(records))
    shown = order if len(records) <= _ALL else [max(order, key=lambda at: len(push.records[at]))]
    title = "privacy.record" if len(records) <= _ALL else "privacy.record_longest"
    rest = [at for at in order if at not in shown]
    name = population.value
    whole = size(hello.ByteSize() + push.ByteSize(), w)
    of = w(f"privacy.{name}_short")
    return ExampleMachine(
        name,
        w(f"privacy.example_of_{name}", day=w.long_day(day)),
        w.count("privacy.example_size", len(records), size=whole),
        message_grid(w("privacy.hello", machine=of), hello, w),
        message_grid(
            w("privacy.push", machine=of), push, w, {"records": w.count("privacy.push_records", len(records))}
        ),
        tuple(
            message_grid(w(title, number=push.first_seq + at, machine=of), _body(records[at]), w)
            for at in shown
        ),
        w.count("privacy.others", len(rest)) if rest else "",
        tuple(f"{push.first_seq + at}: {inline(_body(records[at]))}" for at in rest),
    )


def _body(record: Any) -> Any:
    """Return what a record holds: sums of a period, or a gap."""
    return getattr(record, record.WhichOneof("body"))


def _dictionary(examples: Mapping[str, tuple[date, Any, Any]], w: Words) -> Iterator[Grid]:
    """Yield the fields of each message that an agent may send, with what each is for."""
    shown = {
        one
        for _, hello, push in examples.values()
        for message in (hello, push, *map(pb.Record.FromString, push.records))
        for one in fields_set(message)
    }
    heads = tuple(Head(w(f"privacy.{one}")) for one in ("field", "meaning", "example_badge"))
    for message in messages_sent():
        rows = tuple(
            cells(
                field.name,
                meaning_of(field, w),
                w("privacy.in_example" if (message.name, field.name) in shown else "privacy.not_in_example"),
            )
            for field in message.fields
        )
        yield Grid(f"{w(f'messages.{message.name}')} ({message.name})", heads, rows)
