# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of I6 and I4 before servers have six months of history: absent is never zero."""

from __future__ import annotations

from typing import Any

from tests.unit.collector.indicators.test_sobriety import DAY, TARGETS, below, load, of, server, the
from veilleuse.collector.indicators import load_indicator
from veilleuse.collector.model.indicators import BandUse, is_reached
from veilleuse.wire.vocabulary import Band


def test_a_suspect_without_six_months_is_not_judged():
    """Servers are seen for 60 days: a busy one is known not to be comatose; of a quiet one nothing is known.

    I6 once said 0 of 2, and I4 that nothing of the quiet one could be avoided: zero for absent.
    """
    short = {180: load(known_milliseconds=60 * DAY)}
    bands = {Band.OPEN: BandUse(on_active_millijoules=30 * 3_600_000_000, derived_millijoules=1)}
    busy = server(1, bands=bands, loads={30: load(30, cpu_buckets=below(90, 1, 30)), **short})
    quiet = server(2, bands=bands, loads={30: load(30), **short})
    counts = {"suspects": 1, "excluded": 0, "not_judged": 1, "suspects_not_judged": 1}
    cases: list[Any] = [(of(busy, quiet), (0.0, 0, 1)), (of(quiet), (None, 0, 0))]
    for group, numbers in cases:
        figure = the("I6", group)
        assert (figure.value, figure.numerator, figure.denominator) == numbers
        assert {name: figure.details[name] for name in counts} == counts
        (parts,) = load_indicator("I6").parts(figure)
        assert (parts["suspect"], parts["not_judged"]) == (1, 0)
        assert sum(parts.values()) == figure.n
    known = the("I4", of(busy, quiet))
    assert (known.value, known.n, known.details["not_judged"]) == (0.0, 2, 1)
    assert not list(load_indicator("I4").figures(of(quiet), TARGETS))


def test_no_target_is_reached_while_there_are_suspects():
    """A share that may still rise does not reach its target, and one that is above it misses it."""
    assert is_reached(0.0, 0.05, "lower") is True
    assert is_reached(0.0, 0.05, "lower", 1) is None
    assert is_reached(0.1, 0.05, "lower", 1) is False
