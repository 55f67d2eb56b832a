# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Indicators of a month's machines as they are written down, format 2: words and integers. Never edited after release; another content is format 3.

Format 1 had the same content, of all machines: beside released months, which leave some out, it is not shown any more.

A decimal is written as the shortest text that reads as the same number: {"float": "0.6"}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

from veilleuse.collector.indicators import load_sobriety
from veilleuse.collector.model.indicators import Figure, Scope
from veilleuse.collector.model.publications import Kind
from veilleuse.collector.reports.indicators import Found
from veilleuse.collector.web.publications import Form
from veilleuse.wire.vocabulary import Population


class MachineFigure(NamedTuple):
    """One indicator of one population's machines, physical or virtual, and when it is of."""

    found: Found
    month: date
    """First day of the last closed month: I4 and I5 are of it."""
    until: date
    """Exclusive. Loads of servers are of the days before, power plans as said by then."""


def encoded(figures: Sequence[MachineFigure]) -> dict[str, Any]:
    """Ready for JSON. Raises ValueError for a figure of anything but a population's whole month, or with the machines behind it."""
    return {"figures": [_told(one) for one in figures]}


def decoded(content: Mapping[str, Any], first: date, end: date) -> tuple[MachineFigure, ...]:
    """What was encoded. Raises ValueError, KeyError, TypeError."""
    return tuple(MachineFigure(_found(one, first, end), first, end) for one in content["figures"])


def _is_empty(figures: Sequence[MachineFigure]) -> bool:
    return all(one.found.figure.value is None for one in figures)


FORM: Final[Form[tuple[MachineFigure, ...]]] = Form(Kind.INDICATORS, 2, encoded, decoded, _is_empty)


def _told(one: MachineFigure) -> dict[str, Any]:
    meta, scope, figure = one.found
    whole = Scope(one.month, one.until, population=scope.population, memo=scope.memo, autres=scope.autres)
    if scope != whole or scope.population is None or figure.behind or figure.behind_details:
        raise ValueError(f"{meta.indicator} is of more, or of less, than a population's month: {scope}")
    return {
        "indicator": meta.indicator,
        "population": scope.population.value,
        "memo": scope.memo,
        "autres": scope.autres,
        "value": _exact(figure.value),
        "n": figure.n,
        "numerator": _exact(figure.numerator),
        "denominator": _exact(figure.denominator),
        "counted_in": figure.counted_in,
        "details": {name: _exact(value) for name, value in figure.details.items()},
        "interval": None if figure.interval is None else [_exact(end) for end in figure.interval],
        "threshold": _exact(figure.threshold),
        "withheld": figure.withheld,
    }


def _found(one: Mapping[str, Any], first: date, end: date) -> Found:
    scope = Scope(
        first, end, population=Population(one["population"]), memo=one["memo"], autres=one["autres"]
    )
    interval = one["interval"]
    figure = Figure(
        _number(one["value"]),
        one["n"],
        _number(one["numerator"]),
        _number(one["denominator"]),
        one["counted_in"],
        {name: _number(value) for name, value in one["details"].items()},
        None if interval is None else (_number(interval[0]), _number(interval[1])),
        _number(one["threshold"]),
        one["withheld"],
    )
    return Found(load_sobriety(one["indicator"]).meta, scope, figure)


def _exact(value: float | str | None) -> Any:
    return {"float": repr(value)} if isinstance(value, float) else value


def _number(value: Any) -> Any:
    return float(value["float"]) if isinstance(value, dict) else value
