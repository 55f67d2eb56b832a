# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Changes sound records: bytes anywhere, or the values of fields in the message tree. Some stay sound."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from veilleuse.wire.v1 import telemetry_pb2 as pb

_EDGES = (
    0,
    1,
    2,
    31,
    32,
    53,
    64,
    999,
    10_000,
    60_000,
    3_600_000,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**64 - 1,
)
_TEXTS = (
    "",
    "machine",
    "meter:",
    "meter:x",
    "unit:",
    "unit:a",
    "guest:7",
    "a" * 58,
    "a" * 64,
    "a" * 65,
    "é",
    "<b>",
    "\n",
    "=1",
    "../x",
)


def mutants(chance: random.Random, sound: list[bytes]) -> Iterator[bytes]:
    """Yield mutants of both kinds, without end."""
    while True:
        wire = chance.choice(sound)
        yield _bytes(chance, wire, sound) if chance.random() < 0.4 else _fields(chance, wire)


def _bytes(chance: random.Random, sound: bytes, others: list[bytes]) -> bytes:
    wire = bytearray(sound)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(wire)) if wire else 0
        match chance.randrange(5):
            case 0 if wire:
                wire[at] = chance.randrange(256)
            case 1 if wire:
                wire[at] ^= 1 << chance.randrange(8)
            case 2:
                del wire[at : at + chance.randrange(1, 4)]
            case 3:
                wire[at:at] = chance.randbytes(chance.randrange(1, 4))
            case _:
                other = chance.choice(others)
                wire[at:] = other[chance.randrange(len(other)) :]
    return bytes(wire)


def _fields(chance: random.Random, sound: bytes) -> bytes:
    record = pb.Record.FromString(sound)
    for _ in range(chance.choice((1, 1, 1, 2))):
        if tree := list(_tree(record)):
            _alter(chance, *chance.choice(tree))
    return record.SerializeToString()


def _tree(message: Any) -> Iterator[tuple[Any, FieldDescriptor]]:
    """Yield (message, field) of every field below, without messages that are not set."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        repeated = field.is_repeated
        if field.message_type is None:
            yield message, field
        elif repeated:
            yield message, field
            for one in value:
                yield from _tree(one)
        elif message.HasField(field.name):
            yield message, field
            yield from _tree(value)


def _alter(chance: random.Random, message: Any, field: FieldDescriptor) -> None:
    value = getattr(message, field.name)
    if field.is_repeated:
        _alter_list(chance, value, field)
    elif field.message_type is not None:
        message.ClearField(field.name)
    elif field.type == FieldDescriptor.TYPE_STRING:
        setattr(message, field.name, chance.choice(_TEXTS))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        setattr(message, field.name, value[: chance.randrange(34)] + bytes(chance.randrange(3)))
    else:
        _set(message, field.name, _number(chance, value))


def _alter_list(chance: random.Random, values: Any, field: FieldDescriptor) -> None:
    length = len(values)
    match chance.randrange(4):
        case 0 if length:
            del values[chance.randrange(length)]
        case 1 if length:
            for _ in range(chance.choice((1, 1, 2, 64))):
                values.append(values[chance.randrange(length)])
        case 2:
            del values[:]
        case _:
            if field.message_type is not None:
                values.add()
            else:
                values.append(chance.choice((0, 1, 60_000)))


def _number(chance: random.Random, value: int) -> int:
    near = (value - 1, value + 1, value * 2, value * 10, value // 2, -value)
    return chance.choice((*near, chance.choice(_EDGES)))


def _set(message: Any, name: str, number: int) -> None:
    """Set the number, or as many of its bits as the field's type holds."""
    for fitting in (number, number & 0x7FFF_FFFF_FFFF_FFFF, number & 0x7FFF_FFFF):
        try:
            setattr(message, name, fitting)
        except ValueError:
            continue
        return
