# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of the yearly figure: what reports read beside `Reader`, and what is kept for ever."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Protocol

from veilleuse.collector.model.inventory import Asset, Entity, Headcount, Purchase, Retirement
from veilleuse.collector.model.months import HostPeriod


class PeriodReader(Protocol):
    """What machines did, month by month; read-only, any process."""

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Of every host, each day type and band of the civil days [first, end), added up over it: `period_from` is `first`.

        Whole calendar years cost one row per host, day type and band. Months not kept yet, no longer true, or not whole are made
        of their days: UsageError where these are gone. In host order.
        """

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        """The same, month by month: `period_from` is the month's first day. Both are firsts of a month (ValueError otherwise). In (month, host)
        order."""


class InventoryReader(Protocol):
    """The inventory as last imported; read-only, any process. All empty where none ever was."""

    def assets(self) -> tuple[Asset, ...]:
        """All that ever were, in the order they came."""

    def entities(self) -> tuple[Entity, ...]:
        """The tree as it is now, parents first."""

    def purchases(self, year: int) -> tuple[Purchase, ...]: ...
    def retirements(self, first: date, end: date) -> tuple[Retirement, ...]: ...
    def headcounts(self) -> tuple[Headcount, ...]:
        """By entity and day."""

    def inventory_imported_on(self) -> date | None:
        """UTC date of the last import that changed anything; None: there is no inventory, the fleet is what enrolled."""
