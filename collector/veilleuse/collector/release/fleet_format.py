# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Encodes the fleet's rows of a released month, format 1: words and integers. docs/methodology.md §6."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, Final, TypeAlias

from veilleuse.collector.account.row import RoomParts
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.release.fleet import FleetRow, HomePart, MeasuredParts, Source
from veilleuse.collector.release.format import FigureFormat
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Population

FleetMonth: TypeAlias = tuple[FleetRow, ...]
"""Rows of one month."""
_WORDS: Final = 9
"""Number of words of a row; the others are integers."""


def encode_fleet(rows: FleetMonth) -> dict[str, Any]:
    """Encode the rows for JSON."""
    return {"rows": [_encode(row) for row in rows]}


def _encode(row: FleetRow) -> list[Any]:
    key, measured = row.key, row.measured
    return [
        key.zone,
        key.population,
        key.entity,
        key.device_class,
        key.power_context,
        row.source.value,
        row.mean_entity,
        row.mean_class,
        row.home.declared_by if row.home else None,
        row.home.share_ppm if row.home else 0,
        int(key.memo),
        int(key.autres),
        row.hosts,
        row.machines,
        row.fleet_milliseconds,
        row.known_milliseconds,
        row.known_millijoules,
        row.extrapolated_millijoules,
        row.default_millijoules,
        row.share_ppm,
        row.u_own_ppm,
        row.u_shared_ppm,
        row.u_model_ppm,
        None if measured is None else _encode_measured(measured),
    ]


def _encode_measured(measured: MeasuredParts) -> list[Any]:
    room = measured.room
    methods = {method.value: energy for method, energy in measured.methods.items()}
    return [methods, *measured[1:-1], None if room is None else _encode_room(room)]


def _encode_room(room: RoomParts) -> list[Any]:
    return [
        room.it_millijoules,
        room.ups_loss_millijoules,
        room.overhead_millijoules,
        room.overhead,
        room.pue_ppm,
        room.top_down_millijoules,
    ]


def decode_fleet(content: Mapping[str, Any], first: date, end: date) -> FleetMonth:
    """Decode what `encode_fleet` returned. Raises ValueError, KeyError, TypeError."""
    return tuple(_decode(row, first, end) for row in content["rows"])


def _decode(row: list[Any], first: date, end: date) -> FleetRow:
    zone, population, entity, device_class, context, source, mean_entity, mean_class, declared_by = row[
        :_WORDS
    ]
    home_ppm, memo, autres, *values, measured = row[_WORDS:]
    key = GroupKey(
        first,
        end,
        zone,
        _POPULATIONS[population],
        bool(memo),
        entity,
        None,
        device_class,
        bool(autres),
        _CONTEXTS[context],
    )
    found = FleetRow(key, _SOURCES[source], mean_entity, mean_class, *values)
    if not home_ppm and measured is None:
        return found
    return replace(
        found,
        home=HomePart(home_ppm, declared_by) if home_ppm else None,
        measured=None if measured is None else _decode_measured(measured),
    )


def _decode_measured(measured: list[Any]) -> MeasuredParts:
    methods, imputed, derived, is_census, apportioned, room = measured
    return MeasuredParts(
        {Method(word): energy for word, energy in methods.items()},
        imputed,
        derived,
        is_census,
        apportioned,
        None if room is None else RoomParts(*room),
    )


_POPULATIONS: Final[dict[str | None, Population | None]] = {
    None: None,
    **{one.value: one for one in Population},
}
_CONTEXTS: Final[dict[str | None, PowerContext | None]] = {
    None: None,
    **{one.value: one for one in PowerContext},
}
_SOURCES: Final = {one.value: one for one in Source}

FLEET: Final = FigureFormat(PublicationKind.FLEET, 1, encode_fleet, decode_fleet, lambda rows: not rows)
