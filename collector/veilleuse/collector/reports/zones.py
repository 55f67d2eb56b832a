# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The factor of a zone, as reports ask for it: where there is none, whose zone it is and what mends it."""

from __future__ import annotations

from veilleuse.collector.account.statement import ChooseFactor
from veilleuse.collector.errors import UnknownZone
from veilleuse.collector.factors.book import book_of
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.reports.inputs import Sources


def chooser(sources: Sources) -> ChooseFactor:
    """(zone, year) → factor; raises UnknownZone."""
    book = book_of(sources.factors.versions())

    def choose(zone: str, year: int) -> ChosenFactor:
        try:
            return book.choose(zone, year)
        except UnknownZone as error:
            raise UnknownZone(f"{error}; {_whose(sources, zone)}") from error

    return choose


def _whose(sources: Sources, zone: str) -> str:
    sites = sorted(site.site for site in sources.reader.sites() if site.zone == zone)
    if sites:
        named = ", ".join(f"'{site}'" for site in sites)
        return f"it is the zone of the site {named} ('veilleuse factors import FILE' brings ADEME's, of French zones)"
    return "it is reporting.zone, of devices whose site nobody declared: set one that 'veilleuse factors list' has"
