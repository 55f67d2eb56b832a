# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A data directory with a metered server room, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from tests.support.closed_years import TODAY
from tests.support.filled import Filled, cell, clock
from tests.support.rolled import roll
from veilleuse.collector.app.data_directory import initialise
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.inventory import AssetMatches, AssetRecord, Entity, InventoryChange, Placement
from veilleuse.collector.model.meters import (
    FOR_EVER,
    DeclaredMeter,
    MeterBoundary,
    MeterReading,
    MeterShare,
    Pue,
    RoomServer,
)
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar
from veilleuse.wire.vocabulary import Boundary, PointKind, Population, State

HOUR = 3_600_000
FIRST, END = date(2025, 3, 1), date(2025, 4, 1)
HOURS = 744
BMC = (PointKind.BMC, "power", Boundary.WALL)
SINCE = date(2025, 1, 1)
KWH = 3_600_000_000


class Room:
    """A data directory with one UPS, servers read by their BMC, and servers of the inventory alone."""

    def __init__(self, settings: CollectorSettings) -> None:
        self.settings = settings
        initialise(settings)
        self.filled = Filled(settings.data_dir)
        calendar = Calendar("UTC", DEFAULT_CALENDAR.open_spans)
        with self.filled.store.transaction():
            self.filled.store.registry.put_site(Site("dc", "FR", "UTC", calendar.to_json()))
        self.servers: list[HostId] = []
        self.meters: list[DeclaredMeter] = []

    def server(self, watts: int, first: date = FIRST, end: date = END) -> HostId:
        """Add a server whose BMC is read every hour."""
        host_id = self.filled.add_host(site="dc", enrolled_on=SINCE)
        start = self.at(first)
        self.filled.push(
            host_id,
            [
                (
                    clock(start + hour * HOUR, HOUR),
                    [cell(State.ON_ACTIVE, HOUR, energy_millijoules=watts * HOUR)],
                )
                for hour in range((end - first).days * 24)
            ],
            BMC,
        )
        self.servers.append(host_id)
        return host_id

    def inventory(self, others: int) -> None:
        """Add all servers so far to the inventory, and `others` without an agent."""
        number = len(self.servers) + others
        assets = tuple(
            AssetRecord(
                asset_id=one,
                source="test",
                item="computer",
                key=str(one),
                device_class="server",
                population=Population.SERVER,
                in_service_on=date(2024, 1, 1),
                placements=(Placement(date(2024, 1, 1), "DSI", "dc"),),
            )
            for one in range(1, number + 1)
        )
        store = self.filled.store.inventory
        store.apply(InventoryChange(1, date(2025, 1, 5), assets, (Entity("DSI", None, "dc"),)))
        store.put_matching(AssetMatches(dict(enumerate(self.servers, 1)), ()))

    def meter(
        self,
        watts: int,
        name: str = "ups",
        room: str = "DC1",
        *,
        first: date = FIRST,
        end: date = END,
        covered: int = HOUR,
    ) -> None:
        """Add a meter that the first server's agent reads for `covered` milliseconds of each hour."""
        self.meters.append(DeclaredMeter(name, "dc", room, MeterBoundary.UPS_OUTPUT))
        start = self.at(first)
        reading = MeterReading(name, PointKind.UPS, watts * covered, covered)
        with self.filled.store.transaction():
            for hour in range((end - first).days * 24):
                self.filled.store.metering.put_readings(
                    DirtyPeriod(self.servers[0], Grain.HOUR, start + hour * HOUR), [reading]
                )

    def declare(
        self, *servers: RoomServer, shares: Sequence[MeterShare] = (), pues: Sequence[Pue] = ()
    ) -> None:
        """Declare the meters so far, and derive the hours."""
        self.filled.store.metering.declare(self.meters, shares, pues, servers)
        self.filled.derive()
        roll(self.filled, TODAY)
        self.filled.store.close()

    @staticmethod
    def at(day: date) -> int:
        """Return the day's first millisecond, UTC."""
        return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def stands(
    host: HostId | None = None, asset: int | None = None, room: str = "DC1", first: date = SINCE
) -> RoomServer:
    """Return a declaration of a room's server; without host and asset, of all other servers."""
    return RoomServer(room, "dc", host, asset, first, FOR_EVER)
