# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the values that a collector may set on an agent: their bounds, their text, and clear refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.wire.configuration import Configuration, ConfigurationOutOfBounds

WHOLE_HOURS = [n for n in range(10_000, 3_600_001) if 3_600_000 % n == 0]


@given(
    st.none() | st.integers(10_000, 60_000),
    st.none() | st.sampled_from(WHOLE_HOURS),
    st.none() | st.integers(60_000, 86_400_000),
)
def test_what_is_in_bounds_survives_its_text(tick, period, contact):
    """Values are read back from their text, and unset ones stay unset."""
    one = Configuration(tick, period, contact)
    assert one.check() is one
    assert Configuration.from_json(one.to_json()) == one


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("tick_milliseconds", 10_000, 60_000),
        ("period_milliseconds", 10_000, 3_600_000),
        ("contact_milliseconds", 60_000, 86_400_000),
    ],
)
def test_a_value_out_of_its_range_is_named(name, lowest, highest):
    """The ends of each range are valid; beyond them the message gives the range (docs/wire.md §4)."""
    for value in (lowest, highest):
        assert Configuration(**{name: value}).check()
    for value in (lowest - 1, highest + 1):
        with pytest.raises(ConfigurationOutOfBounds, match=f"{name} is {value}: use {lowest} to {highest}"):
            Configuration(**{name: value}).check()


def test_a_period_divides_the_hour():
    """7 minutes are within the range, but periods of two hours would overlap."""
    with pytest.raises(
        ConfigurationOutOfBounds, match="period_milliseconds is 420000: use a divisor of 3600000"
    ):
        Configuration(period_milliseconds=420_000).check()


def test_a_key_of_a_later_release_is_left_out():
    """An older agent still reads the text that a newer one kept."""
    found = Configuration.from_json('{"later":"x","tick_milliseconds":20000}')
    assert found == Configuration(tick_milliseconds=20_000)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"tick_milliseconds":"20000"}',
        '{"tick_milliseconds":true}',
        '{"tick_milliseconds":2e4}',
    ],
)
def test_a_text_that_is_none_is_refused(text):
    """Any other text raises the same kind of error, also one with a number that is not whole."""
    with pytest.raises(ConfigurationOutOfBounds, match=r"^not a configuration: "):
        Configuration.from_json(text)


def test_a_text_out_of_bounds_is_refused():
    """Values read from a text are checked against their bounds."""
    with pytest.raises(ConfigurationOutOfBounds, match="tick_milliseconds is 5"):
        Configuration.from_json('{"tick_milliseconds":5}')
