# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the published indicators of a month, and encodes them: words and integers.

docs/methodology.md §12, *Released months*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NamedTuple

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.indicators import Figure
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.publications import FigureFormat, PublicationKind
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Group
from veilleuse.collector.release.format import decode_hidden, decode_sums, encode_hidden, encode_sums
from veilleuse.collector.release.tables import Hidden
from veilleuse.wire.vocabulary import Population


class IndicatorRow(NamedTuple):
    """Figure of one indicator of the machines of one place and class, or of several merged."""

    indicator: str
    key: GroupKey
    """Over the month."""
    figure: Figure


class HalfWidth(NamedTuple):
    """Half-width of the 95 % interval of a ratio over the machines of a family, drawn from a large fleet."""

    indicator: str
    family: GroupKey
    """Zone, population and memo, over any period."""
    percent: int
    """Rounded up."""


@dataclass(frozen=True, slots=True)
class IndicatorMonth:
    """Published indicators of a month."""

    part: Slice
    rows: tuple[IndicatorRow, ...]
    """I3 and I4 of PCs, after the rule of disclosure; I4 and I6 to I8 of servers, by place and class."""
    servers: tuple[Group, ...]
    """Sums of servers by place and class: I1, I2, I5 and I13."""
    half_widths: tuple[HalfWidth, ...]
    hidden: tuple[tuple[str, Hidden], ...]
    """Indicator and names in its merged rows."""


_WORDS: Final = ("zone", "population", "entity", "site", "device_class", "power_context")


def encode_indicators(month: IndicatorMonth) -> dict[str, Any]:
    """Encode a month for JSON: words and integers. Raises ValueError for a figure that holds its machines."""
    return {
        "rows": [[row.indicator, *_encode_key(row.key), *_encode_figure(row)] for row in month.rows],
        "servers": [[*_encode_key(group.key), encode_sums(group.sums)] for group in month.servers],
        "half_widths": [[one.indicator, *_encode_key(one.family), one.percent] for one in month.half_widths],
        "hidden": [[indicator, encode_hidden(one)] for indicator, one in month.hidden],
    }


def decode_indicators(content: Mapping[str, Any], first: date, end: date) -> IndicatorMonth:
    """Decode what `encode_indicators` returned. Raises ValueError, KeyError, TypeError."""
    keys = len(_WORDS) + 2
    return IndicatorMonth(
        Slice(first, end),
        tuple(
            IndicatorRow(
                indicator,
                _decode_key(values[:keys], first, end),
                _decode_figure(values[keys:]),
            )
            for indicator, *values in content["rows"]
        ),
        tuple(
            Group(_decode_key(values, first, end), decode_sums(sums)) for *values, sums in content["servers"]
        ),
        tuple(
            HalfWidth(indicator, _decode_key(values, date.min, date.max), half_width)
            for indicator, *values, half_width in content["half_widths"]
        ),
        tuple((indicator, decode_hidden(one, first, end)) for indicator, one in content["hidden"]),
    )


INDICATORS: Final = FigureFormat(
    PublicationKind.INDICATORS,
    3,
    encode_indicators,
    decode_indicators,
    lambda month: not (month.rows or month.servers),
)


def _encode_key(key: GroupKey) -> list[Any]:
    return [*(getattr(key, name) for name in _WORDS), int(key.memo), int(key.autres)]


def _decode_key(values: Sequence[Any], first: date, end: date) -> GroupKey:
    zone, population, entity, site, device_class, context, memo, autres = values
    return GroupKey(
        first,
        end,
        zone,
        Population(population),
        bool(memo),
        entity,
        site,
        device_class,
        bool(autres),
        PowerContext(context) if context else None,
    )


def _encode_figure(row: IndicatorRow) -> list[Any]:
    figure = row.figure
    if figure.behind or figure.behind_details:
        raise ValueError(f"{row.indicator} of {row.key} holds its machines")
    return [
        figure.n,
        *map(_encode_number, (figure.value, figure.numerator, figure.denominator, figure.threshold)),
        figure.counted_in,
        {name: _encode_number(value) for name, value in figure.details.items()},
        None if figure.interval is None else [*map(_encode_number, figure.interval)],
        int(figure.withheld),
    ]


def _decode_figure(values: Sequence[Any]) -> Figure:
    n, value, numerator, denominator, threshold, counted_in, details, interval, withheld = values
    return Figure(
        _number(value),
        n,
        _number(numerator),
        _number(denominator),
        counted_in,
        {name: _number(one) for name, one in details.items()},
        None if interval is None else (_number(interval[0]), _number(interval[1])),
        _number(threshold),
        bool(withheld),
    )


def _encode_number(value: float | str | None) -> Any:
    return {"float": repr(value)} if isinstance(value, float) else value


def _number(value: Any) -> Any:
    return float(value["float"]) if isinstance(value, dict) else value
