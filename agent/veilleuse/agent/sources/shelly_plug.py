# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads Shelly plugs and relays with a meter, over HTTP in the local network.

Source: shelly-api-docs.shelly.cloud, gen1 and gen2. `/shelly` needs no password and gives the generation.
Gen1: `/status`, meters[n].total in watt-minutes, Basic authentication. Gen2 and later:
`/rpc/Switch.GetStatus?id=n`, aenergy.total in watt-hours, Digest authentication with SHA-256. The counter is
preferred: it loses nothing between two reads. It restarts at 0 when the plug restarts (Gen1), or on command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.http_json import (
    Endpoint,
    Exchange,
    basic_header,
    digest_header,
    document_of,
    endpoint_of,
)
from veilleuse.agent.sources.meters_file import read_credentials
from veilleuse.agent.sources.readings import (
    OneQuantity,
    inside,
    meter_of,
    point_of,
)
from veilleuse.wire.units import MICROJOULES_PER_WATT_HOUR, MICROJOULES_PER_WATT_MINUTE
from veilleuse.wire.vocabulary import PointKind

_COMPONENTS: Mapping[str, str] = {"switch": "Switch", "pm1": "PM1"}


class ShellyPlug:
    """`ports.Source`: one channel of one plug."""

    name = "shelly_plug"
    OPTIONS: ClassVar[Mapping[str, type]] = {"channel": int, "component": str}
    """`channel`: 0 is the first.

    `component`: switch (default), or pm1 for a meter without relay (Gen2 and later).
    """

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._meter: MeterSpec | None = None
        self._endpoint: Endpoint | None = None
        self._credentials: tuple[str, str] | None = None
        self._quantity: OneQuantity | None = None
        self._generation = 0

    def open(self) -> tuple[Point, ...]:
        """Ask for the generation.

        Raises SourceUnavailable, or ReadFailed when the plug does not answer now.
        """
        meter = meter_of(self._context, self.name)
        self._endpoint = endpoint_of(meter, 80)
        self._credentials = read_credentials(meter.credentials_file) if meter.credentials_file else None
        if str(meter.options.get("component", "switch")) not in _COMPONENTS:
            raise SourceUnavailable(
                "no_device",
                f"meter {meter.meter}: there is no component {meter.options['component']!r}",
                "set component to switch or pm1",
            )
        self._meter = meter
        with Exchange(self._endpoint, meter.timeout_seconds) as exchange:
            self._generation = self._generation_of(exchange)
        if self._quantity is None:  # kept over close and open: see OneQuantity
            self._quantity = OneQuantity(point_of(PointKind.PLUG, meter), meter)
        return (point_of(PointKind.PLUG, meter),)

    def read(self) -> tuple[Reading, ...]:
        """Return the counter of the channel, else its power. Raises ReadFailed."""
        if self._meter is None or self._endpoint is None or self._quantity is None:
            raise ReadFailed("not open")
        channel = int(self._meter.options.get("channel", 0))
        with Exchange(self._endpoint, self._meter.timeout_seconds) as exchange:
            if self._generation == 1:
                return (self._first_generation(exchange, channel, self._quantity),)
            component = _COMPONENTS[str(self._meter.options.get("component", "switch"))]
            status = self._get_document(exchange, f"/rpc/{component}.GetStatus?id={channel}")
        energy = inside(status, "aenergy", "total")
        return (self._quantity.reading(energy, MICROJOULES_PER_WATT_HOUR, inside(status, "apower")),)

    def close(self) -> None:
        """Do nothing else: no connection stays open between two reads."""
        self._endpoint = None

    def _generation_of(self, exchange: Exchange) -> int:
        """Return 1, 2, 3, …: Gen1 sends `type`, later generations send `gen`."""
        known = document_of(exchange, exchange.get("/shelly"), credentials=self._credentials is not None)
        generation = inside(known, "gen")
        if isinstance(generation, int) and not isinstance(generation, bool) and generation >= 2:
            return generation
        if generation is None and isinstance(inside(known, "type"), str):
            if inside(known, "num_meters") == 0:
                raise SourceUnavailable("no_device", f"{exchange.endpoint} is a Shelly without a meter")
            return 1
        raise ReadFailed(f"{exchange.endpoint} does not answer as a Shelly does; is the address right?")

    def _first_generation(self, exchange: Exchange, channel: int, quantity: OneQuantity) -> Reading:
        measured = inside(self._get_document(exchange, "/status"), "meters", channel)
        if measured is None:
            raise ReadFailed(f"{exchange.endpoint} has no meter {channel}; correct channel, the first is 0")
        if inside(measured, "is_valid") is False:
            raise ReadFailed(f"{exchange.endpoint} marks its own reading as not valid")
        return quantity.reading(
            inside(measured, "total"), MICROJOULES_PER_WATT_MINUTE, inside(measured, "power")
        )

    def _get_document(self, exchange: Exchange, path: str) -> Any:
        """Return the document.

        A challenge is answered only with the authentication of the plug's generation, never with a weaker
        one.
        """
        answer = exchange.get(path)
        if answer.status == 401 and self._credentials is not None:
            name, secret = self._credentials
            challenge = answer.headers.get("WWW-Authenticate", "")
            if self._generation == 1:
                headers = (
                    basic_header(name or "admin", secret) if challenge.lower().startswith("basic") else None
                )
            else:
                headers = digest_header(challenge, path, name or "admin", secret)
            if headers is None:
                raise ReadFailed(
                    f"{exchange.endpoint} asks for an authentication that Veilleuse does not support"
                )
            answer = exchange.get(path, headers)
        return document_of(exchange, answer, credentials=self._credentials is not None)
