# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads plugs with the free firmware Tasmota, over HTTP: `/cm?cmnd=Status 8` → StatusSNS.ENERGY.

Source: tasmota.github.io/docs. `Total` is in kWh with 0 to 5 decimals (command EnergyRes, 3 by default, so 1
Wh). `Power` is in W, with the decimals of WattRes. With several channels `Power` is a list and `Total` their
sum, unless SetOption129 makes `Total` a list too: arendst/Tasmota 17579.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.model import Point, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.http_json import (
    Endpoint,
    Exchange,
    basic_header,
    document_of,
    endpoint_of,
    explain_refusal,
)
from veilleuse.agent.sources.meters_file import read_credentials
from veilleuse.agent.sources.readings import (
    OneQuantity,
    inside,
    meter_of,
    number,
    point_of,
)
from veilleuse.wire.units import MICROJOULES_PER_KILOWATT_HOUR
from veilleuse.wire.vocabulary import PointKind

PATH = "/cm?cmnd=Status%208"


class TasmotaPlug:
    """`ports.Source`: a plug, or one channel of a strip."""

    name = "tasmota_plug"
    OPTIONS: ClassVar[Mapping[str, type]] = {"channel": int}
    """`channel`: 0 is the first; without it all channels together."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._meter: MeterSpec | None = None
        self._endpoint: Endpoint | None = None
        self._headers: dict[str, str] = {}
        self._quantity: OneQuantity | None = None

    def open(self) -> tuple[Point, ...]:
        """Read the configuration; only `read` asks the plug. Raises SourceUnavailable."""
        meter = meter_of(self._context, self.name)
        self._endpoint = endpoint_of(meter, 80)
        if meter.credentials_file:
            name, secret = read_credentials(meter.credentials_file)
            # The firmware prefers a header (xdrv_01_9_webserver.ino). Addresses would be written to logs.
            self._headers = basic_header(name or "admin", secret)
        if self._quantity is None:  # kept over close and open: see OneQuantity
            self._quantity = OneQuantity(point_of(PointKind.PLUG, meter), meter)
        self._meter = meter
        return (point_of(PointKind.PLUG, meter),)

    def read(self) -> tuple[Reading, ...]:
        """Return the counter of the channel, else its power. Raises ReadFailed."""
        if self._meter is None or self._endpoint is None or self._quantity is None:
            raise ReadFailed("not open")
        with Exchange(self._endpoint, self._meter.timeout_seconds) as exchange:
            known = bool(self._headers)
            document = document_of(exchange, exchange.get(PATH, self._headers), credentials=known)
        # the firmware asks for user and password in an answer with a success status
        if "WARNING" in document:
            raise ReadFailed(explain_refusal(self._endpoint, credentials=known))
        measured = inside(document, "StatusSNS", "ENERGY")
        if measured is None:
            raise ReadFailed(
                f"{self._endpoint} has no meter, or is no Tasmota: no StatusSNS.ENERGY in its status 8; "
                "is the address right?"
            )
        channel = self._meter.options.get("channel")
        energy, power = inside(measured, "Total"), inside(measured, "Power")
        if channel is not None:
            self._require(int(channel), energy, power)
            if not isinstance(energy, list) and isinstance(power, list):
                energy = None  # the sum of all channels is not this channel's energy
            energy, power = _channel(energy, int(channel)), _channel(power, int(channel))
        else:
            energy, power = _all(energy), _all(power)
        return (self._quantity.reading(energy, MICROJOULES_PER_KILOWATT_HOUR, power),)

    def _require(self, channel: int, *values: Any) -> None:
        """Raise ReadFailed on a channel that this device does not have."""
        channels = max(len(value) if isinstance(value, list) else 1 for value in values)
        if not 0 <= channel < channels:
            have = "one channel, 0" if channels == 1 else f"{channels} channels, from 0"
            raise ReadFailed(f"{self._endpoint} has no channel {channel}; correct channel: it has {have}")

    def close(self) -> None:
        """Do nothing else: no connection stays open between two reads."""
        self._endpoint = None


def _channel(value: Any, channel: int) -> Any:
    """Return one entry of a list; a single value belongs to channel 0."""
    if isinstance(value, list):
        return inside(value, channel)
    return value if channel == 0 else None


def _all(value: Any) -> Any:
    """Return the sum of a list; None when one value is missing: a part is not the whole."""
    if not isinstance(value, list):
        return value
    exact = [number(one, "a channel") for one in value]
    known = [one for one in exact if one is not None]
    return sum(known) if known and len(known) == len(exact) else None
