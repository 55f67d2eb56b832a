# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test units, sums, limits and the chain: integers are exact, conserved and bounded."""

from __future__ import annotations

import hashlib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.wire import limits, units
from veilleuse.wire.chain import chain_next, chain_start, record_hash
from veilleuse.wire.sums import apportion, merge_smallest

amounts = st.integers(0, 2**63)


FIRST_PRINCIPLES = {
    "NANOJOULES_PER_MICROJOULE": 10**9 // 10**6,
    "MILLIJOULES_PER_JOULE": 10**3,
    "MICROJOULES_PER_MILLIJOULE": 10**6 // 10**3,
    "MICROJOULES_PER_JOULE": 10**6,
    "MICROJOULES_PER_WATT_MINUTE": 10**6 * 60,
    "MICROJOULES_PER_WATT_HOUR": 10**6 * 60 * 60,
    "MICROJOULES_PER_KILOWATT_HOUR": 10**6 * 10**3 * 60 * 60,
    "JOULES_PER_KWH": 10**3 * 60 * 60,
    "MILLIJOULES_PER_KWH": 10**3 * 10**3 * 60 * 60,
    "NANOSECONDS_PER_MILLISECOND": 10**9 // 10**3,
    "MICROSECONDS_PER_MILLISECOND": 10**6 // 10**3,
    "HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND": 10**9 // 10**3 // 100,
    "SECONDS_PER_MINUTE": 60,
    "MILLISECONDS_PER_SECOND": 10**3,
    "MILLISECONDS_PER_MINUTE": 60 * 10**3,
    "MILLISECONDS_PER_HOUR": 60 * 60 * 10**3,
    "SECONDS_PER_DAY": 24 * 60 * 60,
    "MILLISECONDS_PER_DAY": 24 * 60 * 60 * 10**3,
    "UNIX_EPOCH_DAY": date(1970, 1, 1).toordinal(),
    "MICROWATTS_PER_MILLIWATT": 10**6 // 10**3,
    "MICROWATTS_PER_WATT": 10**6,
    "MICROAMPERE_MICROVOLTS_PER_MILLIWATT": 10**6 * 10**6 // 10**3,  # 1 A × 1 V = 1 W = 1,000 mW
    "MICROWATT_MILLISECONDS_PER_MILLIJOULE": 10**6 * 10**3 // 10**3,  # 1 W × 1 s = 1 J = 1,000 mJ
    "MILLIWATTS_PER_WATT": 10**3,
    "WATTS_PER_KILOWATT": 10**3,
    "MILLIJOULES_PER_UNIT": {
        "mJ": 1,
        "J": 10**3,
        "kJ": 10**6,
        "MJ": 10**9,
        "Wh": 60 * 60 * 10**3,
        "kWh": 60 * 60 * 10**6,
        "MWh": 60 * 60 * 10**9,
    },
    "MILLIGRAMS_PER_GRAM": 10**3,
    "GRAMS_PER_KILOGRAM": 10**3,
    "KILOGRAMS_PER_TONNE": 10**3,
}
"""Constant of wire/units.py → its value from SI prefixes and the lengths of minute, hour and day."""


@pytest.mark.parametrize(
    "name", sorted({name for name in vars(units) if name.isupper()} | FIRST_PRINCIPLES.keys())
)
def test_each_constant_is_what_its_name_says(name):
    """A constant that is wrong by 1,000 is found here, before any figure shows it."""
    assert name in FIRST_PRINCIPLES, f"add {name} to FIRST_PRINCIPLES in tests/unit/wire/test_numbers.py"
    assert getattr(units, name) == FIRST_PRINCIPLES[name], f"correct {name} in proto/veilleuse/wire/units.py"


def test_one_kilowatt_hour():
    """1 kWh = 3.6 MJ = 3,600,000,000 mJ; 1 W for an hour is 1 Wh; 10¹² pWh are 1 Wh, 3,600 J."""
    assert units.kwh_from_millijoules(3_600_000_000) == 1.0
    assert units.joules_from_millijoules(1_500) == 1.5
    assert units.millijoules_from_watts(1.0, units.MILLISECONDS_PER_HOUR) == 3_600_000
    assert units.microjoules_from_picowatt_hours(10**12) == 3_600 * 10**6


@given(amounts, st.lists(st.integers(0, 2**40), min_size=1, max_size=20).filter(any))
def test_the_parts_sum_to_the_whole(total, weights):
    """Parts sum exactly to the whole, each within one unit of its share; a weight of zero gets nothing."""
    parts = apportion(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * whole - total * weight) <= whole
        assert weight or not part


@given(amounts, st.lists(st.integers(1, 10**6), min_size=2, max_size=20), st.data())
def test_splitting_twice_is_splitting_once(total, weights, data):
    """A first cut at one edge moves at most one unit across it."""
    cut = data.draw(st.integers(1, len(weights) - 1))
    head = apportion(total, [sum(weights[:cut]), sum(weights[cut:])])[0]
    assert abs(head - sum(apportion(total, weights)[:cut])) <= 1


def test_nothing_to_split_among_nobody():
    """0 among zero weights gives zeros; another total, and negative numbers, raise ValueError."""
    assert apportion(0, [0, 0]) == [0, 0]
    assert apportion(0, []) == []
    for total, weights in ((1, [0, 0]), (1, []), (-1, [1]), (1, [1, -1])):
        with pytest.raises(ValueError, match="apportion"):
            apportion(total, weights)


@given(st.binary(min_size=8, max_size=8), st.lists(st.binary(max_size=50), max_size=8))
def test_the_chain_is_sha_256_all_the_way(epoch, records):
    """chain_0 = SHA-256(epoch); chain_n = SHA-256(chain_{n-1} ‖ record); a record's own hash has 8 bytes."""
    chain = chain_start(epoch)
    assert chain == hashlib.sha256(epoch).digest()
    for record in records:
        assert chain_next(chain, record) == hashlib.sha256(chain + record).digest()
        chain = chain_next(chain, record)
        assert record_hash(record) == hashlib.sha256(record).digest()[:8]
    assert len(chain) == limits.CHAIN_BYTES


@given(
    st.floats(0, 100), st.sampled_from([limits.CPU_BUCKET_EDGES_PERCENT, limits.MEMORY_BUCKET_EDGES_PERCENT])
)
def test_a_value_lies_in_its_bucket(value, edges):
    """Lower edge ≤ value < upper edge."""
    index = limits.bucket_index(value, edges)
    assert index == 0 or edges[index - 1] <= value
    assert index == len(edges) or value < edges[index]


@given(st.text(max_size=200))
def test_a_fact_is_harmless_or_nothing(text):
    """A fact has 1 to 64 letters, digits, spaces or . _ - and cleaning it again changes nothing."""
    cleaned = limits.fact_text(text)
    if cleaned is not None:
        assert limits.FACT_PATTERN.fullmatch(cleaned)
        assert limits.fact_text(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("Intel(R) Core(TM) i5-8500 CPU @ 3.00GHz", "Intel_R_ Core_TM_ i5-8500 CPU _ 3.00GHz"),
        ("Debian GNU/Linux 13", "Debian GNU_Linux 13"),
        ("  Dell Inc. ", "Dell Inc."),
        ("=cmd|'/c calc'!A1", "cmd_c calc_A1"),
        ("<script>", "script"),
        ("日本", None),
        ("", None),
    ],
)
def test_facts_as_they_come(text, fact):
    """Makers' names stay readable; markup, formulas and paths do not survive."""
    assert limits.fact_text(text) == fact


@given(st.dictionaries(st.sampled_from(["other", *"abcdefgh"]), st.integers(0, 9)), st.integers(1, 10))
def test_merging_the_smallest_keeps_the_sum(values, most):
    """At most `most` names remain with their sum; the largest keep name and value."""
    merged = merge_smallest(values, most, "other")
    assert len(merged) <= most
    assert sum(merged.values()) == sum(values.values())
    named = {name: value for name, value in merged.items() if name != "other"}
    assert named.items() <= values.items()
    lost = [value for name, value in values.items() if name not in merged]
    assert not lost or len(merged) == most
    assert not lost or max(lost) <= min(named.values(), default=9)
