# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Hold the input of a report in memory: an inventory, machines, their months. It computes no figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, cast

from veilleuse.collector.model.calendars import (
    BEFORE_ALL,
    CalendarVersion,
    Declaration,
    SchoolPeriod,
    SchoolZone,
)
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.inventory import Asset, DeclaredPowers, Headcount
from veilleuse.collector.model.meters import MeterDeclarations, MeterReading
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.records import DataKind, HostId
from veilleuse.collector.model.sums import EnergySums
from veilleuse.collector.reports.inputs import Sources
from veilleuse.wire.bands import Calendar
from veilleuse.wire.vocabulary import Population


@dataclass
class StoredYear:
    """All data of a year; each attribute is what one reader of `Sources` returns."""

    site_list: tuple[Site, ...]
    host_list: tuple[Host, ...] = ()
    asset_list: tuple[Asset, ...] = ()
    months: tuple[HostPeriod, ...] = ()
    """Rows by month, `period_from` on the 1st; a row of part of a month begins on its first day."""
    holidays: tuple[SchoolPeriod, ...] = ()
    school_sites: frozenset[str] = frozenset()
    """Sites of school zone A."""
    contract_list: tuple[Any, ...] = ()
    headcount_list: tuple[Headcount, ...] = ()
    factor_versions: tuple[Any, ...] = ()
    metering: MeterDeclarations = field(default_factory=MeterDeclarations)
    readings: dict[str, dict[int, MeterReading]] = field(default_factory=dict)
    hours: tuple[tuple[HostId, int, EnergySums], ...] = ()
    """Derived energy of servers: (host, UTC hour in Unix ms, sums); `months` contain it too."""

    def sources(self) -> Sources:
        """Return these data as the sources of a report."""
        one = cast(Any, self)
        return Sources(one, one, one, one, cast(Any, _Meters(self)), one, one)

    def hosts(self) -> tuple[Host, ...]:
        return self.host_list

    def sites(self) -> tuple[Site, ...]:
        return self.site_list

    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]:
        calendar = Calendar.from_json(site.calendar_json)
        zone = SchoolZone.A if site.site in self.school_sites else None
        return (CalendarVersion(BEFORE_ALL, calendar, Declaration(calendar.open_spans, school_zone=zone)),)

    def school_periods(self) -> tuple[SchoolPeriod, ...]:
        return self.holidays

    def calibrations(self) -> tuple[()]:
        return ()

    def data_kind(self) -> DataKind:
        return DataKind()

    def dirty_count(self) -> int:
        return 0

    def balance(self, *_: object, **__: object) -> tuple[()]:
        return ()

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Add up the rows that begin in [first, end), as ports.PeriodReader does."""
        sums: dict[tuple[Any, ...], list[int]] = {}
        for row in self.months:
            if first <= row.period_from < end:
                key = (row.host_id, row.day_type, row.band)
                values = sums.setdefault(key, [0] * len(row.values))
                sums[key] = [one + more for one, more in zip(values, row.values, strict=True)]
        for (host_id, kind, band), values in sorted(sums.items()):
            yield HostPeriod(host_id, first, kind, band, tuple(values))

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        return (
            row
            for row in sorted(self.months, key=lambda row: (row.period_from, row.host_id))
            if first <= row.period_from < end
        )

    def hour_sums(
        self, labels: Mapping[int, int], _: Population | None = None
    ) -> Iterator[tuple[HostId, int, EnergySums]]:
        """See ports.HourReader."""
        return ((host_id, labels[hour], sums) for host_id, hour, sums in self.hours if hour in labels)

    def assets(self) -> tuple[Asset, ...]:
        return self.asset_list

    def devices(self, _first: date, _last: date) -> tuple[()]:
        """Nothing is counted of devices without a site or a day."""
        return ()

    def reinstalled(self) -> dict[HostId, HostId]:
        """See ports.InventoryReader."""
        return {
            host_id: asset.host_ids[-1]
            for asset in self.asset_list
            if len(asset.host_ids) > 1
            for host_id in asset.host_ids
        }

    def headcounts(self) -> tuple[Headcount, ...]:
        return self.headcount_list

    def inventory_imported_on(self) -> None:
        return None

    def versions(self) -> tuple[Any, ...]:
        return self.factor_versions

    def perimeters(self) -> tuple[()]:
        """No perimeters were declared."""
        return ()

    def declared_powers(self) -> DeclaredPowers:
        """No powers were declared."""
        return DeclaredPowers()

    def mappings(self) -> tuple[()]:
        return ()

    def contracts(self) -> tuple[Any, ...]:
        return self.contract_list

    def revisions(self, _: int | None = None) -> tuple[()]:
        return ()

    def kept_years(self) -> tuple[()]:
        return ()

    def summary(self, kind: PublicationKind, first: date, end: date) -> None:
        """Nothing is published."""


@dataclass
class _Meters:
    """The meters of server rooms."""

    stored: StoredYear

    def declarations(self) -> MeterDeclarations:
        return self.stored.metering

    def first_read(self) -> int | None:
        return min((at for hours in self.stored.readings.values() for at in hours), default=None)

    def hours(self, meters: list[str], start: int, end: int) -> dict[str, dict[int, MeterReading]]:
        return {
            meter: {at: read for at, read in self.stored.readings.get(meter, {}).items() if start <= at < end}
            for meter in meters
        }
