# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads a server's power from its management controller over Redfish, always over TLS.

Source: DMTF DSP0266, DSP2046. The resource of the power is searched once (sources/redfish_client.py), then
one resource is read each time. The gauge is preferred to EnergykWh: that counter often moves in steps of 0.1
or 1 kWh, half an hour of a server's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.http_json import Exchange, endpoint_of, tls_context
from veilleuse.agent.sources.meters_file import read_credentials
from veilleuse.agent.sources.readings import (
    OneQuantity,
    RateLimiter,
    meter_of,
    point_of,
)
from veilleuse.agent.sources.redfish_client import Chosen, Fetch, Service, choose, read_power
from veilleuse.wire.units import MICROJOULES_PER_KILOWATT_HOUR
from veilleuse.wire.vocabulary import PointKind

MOST_RESOURCES: Final = 256
"""Largest number of resources read to find the power; the largest known service lists about 60 chassis."""


class Redfish:
    """`ports.Source`: one machine or one enclosure of one service."""

    name = "redfish"
    OPTIONS: ClassVar[Mapping[str, type]] = {
        "chassis": str,
        "power_control": str,
        "auth": str,
        "tls_verify": bool,
        "ca_file": str,
    }
    """`chassis` and `power_control`: names to use when the service does not show which (with commas: summed).

    `auth`: session (default) or basic.
    """
    PAUSE_SECONDS: ClassVar[float] = 30.0
    """Shortest time between two requests, whatever the interval: docs/sources.md, redfish."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._meter: MeterSpec | None = None
        self._service: Service | None = None
        """Renewed at each `open`, so that corrected files are used; kept during a pause."""
        self._credentials: tuple[str, str] | None = None
        self._seen: dict[str, dict[str, Any] | None] = {}
        self._chosen: tuple[Chosen, ...] = ()
        self._quantity: OneQuantity | None = None
        self._by_gauge = False
        self._limiter = RateLimiter(self._ask)

    def open(self) -> tuple[Point, ...]:
        """Find the power. Raises SourceUnavailable, or ReadFailed when the service does not answer now.

        The resources found before a timeout are kept: the search in a slow controller continues at the next
        call.
        """
        meter = meter_of(self._context, self.name)
        credentials = read_credentials(meter.credentials_file) if meter.credentials_file else None
        if self._service is None or not self._service.is_paused or credentials != self._credentials:
            self.close()
            self._service, self._credentials = self._build_service(meter, credentials), credentials
        self._meter = meter
        point = point_of(PointKind.BMC, meter)
        if self._quantity is None:  # kept over close and open: see OneQuantity
            self._quantity = OneQuantity(point, meter)
        try:
            with self._service.exchange() as exchange:
                self._chosen = choose(
                    self._caching_fetch(exchange),
                    str(meter.options.get("chassis", "")),
                    str(meter.options.get("power_control", "")),
                    one_machine=meter.subject == "machine",
                )
        except SourceUnavailable as error:
            self._seen.clear()
            raise SourceUnavailable(error.word, f"{meter.meter}: {error.reason}", error.remedy) from error
        self._seen.clear()
        return (point,)

    def read(self) -> tuple[Reading, ...]:
        """Return power, or energy when there is no power; renewed at most every 30 s. Raises ReadFailed."""
        return self._limiter.read(self.PAUSE_SECONDS)

    def close(self) -> None:
        """End the session."""
        self._limiter.forget()
        if self._service is not None:
            self._service.close()

    def _ask(self) -> tuple[Reading, ...]:
        service, quantity = self._service, self._quantity
        if service is None or quantity is None or not self._chosen:
            raise ReadFailed("not open")
        with service.exchange() as exchange:
            power, energy = read_power(lambda path: service.get(exchange, path), self._chosen)
        if power == 0:
            raise ReadFailed("the service reports 0 W, which is impossible: its controller draws power")
        if power is not None or self._by_gauge:
            self._by_gauge, energy = True, None
        return (quantity.reading(energy, MICROJOULES_PER_KILOWATT_HOUR, power),)

    def _build_service(self, meter: MeterSpec, credentials: tuple[str, str] | None) -> Service:
        auth = str(meter.options.get("auth", "session"))
        if auth not in ("session", "basic"):
            raise SourceUnavailable(
                "no_device", f"{meter.meter}: there is no auth {auth!r}", "set auth to session or basic"
            )
        ca_file = str(meter.options.get("ca_file", ""))
        try:
            tls = tls_context(verify=bool(meter.options.get("tls_verify", True)), ca_file=ca_file)
        except OSError as error:
            raise SourceUnavailable(
                "no_permission",
                f"{meter.meter}: cannot use the authorities in {ca_file}: {error.strerror or error}",
                "name a PEM file in ca_file that the agent's user may read",
            ) from error
        return Service(
            endpoint_of(meter, 443, tls),
            credentials,
            sessions=auth == "session",
            timeout_seconds=meter.timeout_seconds,
        )

    def _caching_fetch(self, exchange: Exchange) -> Fetch:
        service, seen = self._service, self._seen

        def fetch(path: str) -> dict[str, Any] | None:
            if path not in seen:
                if len(seen) >= MOST_RESOURCES or service is None:
                    raise SourceUnavailable(
                        "no_device", f"its power is not found in {MOST_RESOURCES} resources"
                    )
                seen[path] = service.get(exchange, path)
            return seen[path]

        return fetch
