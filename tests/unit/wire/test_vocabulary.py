# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that words equal the contract's enums, and that the model's names are fields of the contract."""

from __future__ import annotations

from enum import StrEnum
from functools import cache

import pytest

from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.limits import CELL_BUCKETS, CELL_SUMS, DISPLAY_SIZES
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    Band,
    Boundary,
    DeviceClass,
    GapReason,
    PointKind,
    Population,
    State,
    Supply,
)

ENUMS = {
    "Band": Band,
    "State": State,
    "Supply": Supply,
    "PointKind": PointKind,
    "Boundary": Boundary,
    "GapReason": GapReason,
    "Population": Population,
    "DeviceClass": DeviceClass,
}


@pytest.mark.parametrize("name", ENUMS)
def test_the_words_are_the_enums(name):
    """Members and order are the same, without UNSPECIFIED, which is 0."""
    words: type[StrEnum] = ENUMS[name]
    values = pb.DESCRIPTOR.enum_types_by_name[name].values
    prefix = "".join(f"_{letter}" if letter.isupper() else letter for letter in name).lstrip("_").upper()
    assert values[0].name == f"{prefix}_UNSPECIFIED"
    assert values[0].number == 0
    assert [value.name for value in values][1:] == [f"{prefix}_{word.name}" for word in words]
    assert [word.value for word in words] == [word.name.lower() for word in words]


def test_words_of_two_lists_are_never_equal():
    """State.UNKNOWN differs from Supply.UNKNOWN in dict, set and cache, and each equals its own text."""
    words = [word for kind in (*ENUMS.values(), Method) for word in kind]
    assert len(set(words)) == len(words)
    assert len(dict.fromkeys(reversed(words))) == len(words)
    for word in words:
        assert [other for other in words if other == word] == [word]
        assert [other for other in words if not other != word] == [word]  # noqa: SIM202  # both operators, as written
        assert word == word.value
        assert hash(word) == hash(word.value)
        assert {word.value: 1}[word] == 1

    @cache
    def kind_of(word: StrEnum) -> type[StrEnum]:
        return type(word)

    assert [kind_of(word) for word in words] == [type(word) for word in words]


def test_every_enum_refuses_its_zero():
    """Number 0 is UNSPECIFIED in each enum, so that a forgotten field is never a value."""
    for enum in pb.DESCRIPTOR.enum_types_by_name.values():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")


def test_the_sums_of_a_cell_are_fields_of_the_contract():
    """Each optional sum has presence and each bucket list is repeated, so that absent differs from zero."""
    fields = pb.Cell.DESCRIPTOR.fields_by_name
    for name in CELL_SUMS:
        assert fields[name].has_presence, name
    for name in CELL_BUCKETS:
        assert fields[name].is_repeated, name


def test_the_ladder_is_in_order():
    """The order is that of docs/methodology.md §1, best first; methods that count as measured come first."""
    assert [method.value for method in Method] == [
        "metered",
        "battery",
        "counter_calibrated",
        "counter_modelled",
        "load_modelled",
        "class_default",
    ]
    assert set(list(Method)[: len(MEASURED)]) == MEASURED


def test_sizes_of_displays_are_the_enum():
    """A size's place in the list is its number on the wire minus one."""
    names_on_the_wire = [value.name for value in pb.DESCRIPTOR.enum_types_by_name["DisplaySize"].values][1:]
    assert names_on_the_wire == [f"DISPLAY_SIZE_{name.upper()}" for name in DISPLAY_SIZES]
