# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads messages of the wire field by field, with what each field is for: [fields] and [values] of locale/.

Only fields that are set are on the wire, and so only these are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from veilleuse.collector.documents.text import NO_BREAK, Words
from veilleuse.collector.web.pages.parts import Grid, Head, cells
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.v1 import telemetry_pb2 as pb

SENT: Final[tuple[Any, ...]] = (
    pb.HelloRequest,
    pb.PushRequest,
    pb.Record,
    pb.EnrolRequest,
    pb.RenewRequest,
    pb.ChallengeRequest,
    pb.RenewExpiredRequest,
)
"""Messages that an agent may send."""
_KIBIBYTE: Final = 1024
_SECONDS_PER_MINUTE: Final = 60


def messages_sent() -> tuple[Descriptor, ...]:
    """Return all messages that an agent may send, with those inside them, each once."""
    found: dict[str, Descriptor] = {}

    def add(one: Descriptor) -> None:
        if one.name not in found:
            found[one.name] = one
            for field in one.fields:
                if field.message_type is not None:
                    add(field.message_type)

    for message in SENT:
        add(message.DESCRIPTOR)
    return tuple(found.values())


def fields_set(message: Any) -> Iterator[tuple[str, str]]:
    """Yield (message, field) of each field that is set, those of inner messages included."""
    for field, value in message.ListFields():
        yield message.DESCRIPTOR.name, field.name
        if field.message_type is not None:
            for each in value if isinstance(value, MutableSequence) else (value,):
                yield from fields_set(each)


def message_grid(caption: str, message: Any, w: Words, replaced: dict[str, str] | None = None) -> Grid:
    """Return the table of a message: field, value, and what it is where the field comes first.

    `replaced`: field of the message → text in place of its value.
    """
    rows, told = [], set()
    for path, value, field in _lines(message, w, replaced or {}):
        key = field.full_name
        rows.append(cells(path, value, "" if key in told else meaning_of(field, w)))
        told.add(key)
    return Grid(
        caption, tuple(Head(w(f"privacy.{one}")) for one in ("field", "value", "meaning")), tuple(rows)
    )


def meaning_of(field: FieldDescriptor, w: Words) -> str:
    """Return what a field is for. Raises KeyError for a field without a text."""
    message, name = field.full_name.split(".")[-2:]
    return w(f"fields.{message}.{name}")


def _lines(
    message: Any, w: Words, replaced: dict[str, str], path: str = ""
) -> Iterator[tuple[str, str, FieldDescriptor]]:
    for field, value in message.ListFields():
        name = f"{path}{field.name}"
        is_many = isinstance(value, MutableSequence)
        if field.name in replaced:
            yield name, replaced[field.name], field
        elif field.message_type is None:
            texts = [_write(field, each, w) for each in (value if is_many else (value,))]
            yield name, ", ".join(texts), field
        else:
            for place, each in enumerate(value if is_many else (value,)):
                yield from _lines(each, w, {}, f"{name}[{place}]." if is_many else f"{name}.")


def inline(message: Any) -> str:
    """Write a message on one line, without explanations."""
    return ", ".join(_inline(message))


def _inline(message: Any) -> Iterable[str]:
    for field, value in message.ListFields():
        for each in (
            value if isinstance(value, MutableSequence) and field.message_type is not None else (value,)
        ):
            if field.message_type is not None:
                yield f"{field.name} {{{inline(each)}}}"
            elif isinstance(each, MutableSequence):
                yield f"{field.name}: [{', '.join(map(str, each))}]"
            else:
                yield f"{field.name}: {_raw(field, each)}"


def _raw(field: FieldDescriptor, value: Any) -> str:
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    return value.hex() if isinstance(value, bytes) else str(value)


def _write(field: FieldDescriptor, value: Any, w: Words) -> str:
    """Write a value as it is sent, and as people say it."""
    raw, name = _raw(field, value), field.name
    if field.enum_type is not None:
        return f"{raw} ({w(f'values.{raw}')})"
    if isinstance(value, bytes):
        return w("privacy.bytes", hex=raw, n=len(value))
    if not isinstance(value, int) or name == "year":
        return raw
    number = w.plain_number(raw)
    if name == "start_unix_milliseconds":
        return f"{number}{NO_BREAK}ms ({w.time(value)})"
    if name.endswith("_millijoules"):
        return f"{number}{NO_BREAK}mJ ({w.energy(value)})"
    if name.endswith("milliseconds"):
        return f"{number}{NO_BREAK}ms" + (f" ({_span(value, w)})" if value >= MILLISECONDS_PER_SECOND else "")
    if name.endswith("_seconds"):
        return f"{number}{NO_BREAK}s" + (
            f" ({w.number(value / _SECONDS_PER_MINUTE)}{NO_BREAK}min)" if value else ""
        )
    return f"{number} ({size(value, w)})" if name.endswith("_bytes") and value >= _KIBIBYTE else number


def _span(milliseconds: int, w: Words) -> str:
    if milliseconds >= MILLISECONDS_PER_HOUR:
        return f"{w.number(milliseconds / MILLISECONDS_PER_HOUR)}{NO_BREAK}h"
    if milliseconds >= MILLISECONDS_PER_MINUTE:
        return f"{w.number(milliseconds / MILLISECONDS_PER_MINUTE)}{NO_BREAK}min"
    return f"{w.number(milliseconds / MILLISECONDS_PER_SECOND)}{NO_BREAK}s"


def size(number: int, w: Words) -> str:
    """Write a number of bytes in the unit that fits."""
    for power, unit in ((3, "Gi"), (2, "Mi"), (1, "Ki")):
        if number >= _KIBIBYTE**power:
            return w("privacy.size", number=w.number(number / _KIBIBYTE**power), unit=unit)
    return w("privacy.size", number=number, unit="")
