# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Assigns emissions to items of BEGES and GHG Protocol,
with the home share and the kind of a factor change (pure).

docs/methodology.md §8. BEGES: décret 2022-982, items of its regulatory method, version 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Final

from veilleuse.collector.account.emissions import Emissions
from veilleuse.collector.model.factors import BilanItem, BilanMapping, ContextMapping
from veilleuse.collector.model.inventory import LEAST_TELEWORK_USERS, Headcount, PowerContext

READ, REMEMBERED, ENTERED = "read in the method", "remembered, not verified", "entered"

_ELECTRICITY: Final = (BilanItem("2.1", "2"), BilanItem("4.1", "3.3"))
_UNKNOWN: Final = BilanItem("", "")

DEFAULT_MAPPING: Final = BilanMapping(
    (
        ContextMapping(PowerContext.OWN_SITE, *_ELECTRICITY, True, True, READ),
        ContextMapping(
            PowerContext.EPLE, _UNKNOWN, None, False, True, "whose contract it is has to be entered"
        ),
        ContextMapping(PowerContext.LEASED_SITE, BilanItem("4.4", "3.8"), None, False, True, READ),
        ContextMapping(PowerContext.HOSTED, BilanItem("4.5", "3.1"), None, False, True, REMEMBERED),
        ContextMapping(PowerContext.HOME, BilanItem("3.3", "3.7"), None, False, True, REMEMBERED),
    )
)
"""Mapping of docs/methodology.md §8, until a user confirms it."""

WORKED_DAYS_PER_WEEK: Final = 5
"""Worked days per week, the denominator of telework days [P]."""


@dataclass(frozen=True, slots=True)
class BilanLine:
    """One part of a figure and its item."""

    part: str
    """Part: combustion, upstream_and_losses, split_residual; or total, where it is not split."""
    item: BilanItem
    kgco2e: Fraction
    in_beges_energie: bool
    in_bilan_numerique: bool


def with_eple(mapping: BilanMapping, own_contract: bool, entered: BilanItem | None = None) -> BilanMapping:
    """Return the mapping with the item of a college's own meter.

    It is that of own_site where the contract is the authority's, else the entered item. Raises ValueError
    when the contract is the college's and no item is entered.
    """
    if own_contract:
        line = replace(mapping.of(PowerContext.OWN_SITE), context=PowerContext.EPLE, origin=ENTERED)
    elif entered is None or not entered.beges_item or not entered.ghg_category.startswith("3"):
        raise ValueError(
            "the college's own contract is scope 3: its BEGES item and GHG category are to be entered"
        )
    else:
        line = ContextMapping(PowerContext.EPLE, entered, None, False, True, ENTERED)
    return with_line(mapping, line)


def with_line(mapping: BilanMapping, line: ContextMapping) -> BilanMapping:
    """Return the mapping with one context's line replaced."""
    return replace(
        mapping, lines=tuple(line if one.context is line.context else one for one in mapping.lines)
    )


def contexts_without_item(mapping: BilanMapping) -> tuple[PowerContext, ...]:
    """Return the contexts without an entered item."""
    return tuple(line.context for line in mapping.lines if not line.combustion.beges_item)


def items_from_memory(mapping: BilanMapping) -> dict[PowerContext, str]:
    """Return the contexts whose item nobody has confirmed by naming it → that item, as `--item` takes it."""
    return {
        line.context: f"{line.context}={line.combustion.beges_item}/{line.combustion.ghg_category}"
        for line in mapping.lines
        if line.origin == REMEMBERED
    }


def bilan_lines(context: PowerContext, billed: Emissions, mapping: BilanMapping) -> tuple[BilanLine, ...]:
    """Assign the emissions of a context to items; the lines sum exactly to its total.

    Combustion is separate from upstream and losses. The residual between the published total and its
    components goes with upstream and losses, as a line of its own. Without components, the whole goes to the
    item of combustion.
    """
    line = mapping.of(context)
    if line.rest is None or billed.combustion_kgco2e is None:
        return (_line("total", line.combustion, billed.total_kgco2e, line),)
    upstream, losses, residual = (
        billed.upstream_kgco2e or Fraction(0),
        billed.losses_kgco2e or Fraction(0),
        billed.split_residual_kgco2e or Fraction(0),
    )
    found = [
        _line("combustion", line.combustion, billed.combustion_kgco2e, line),
        _line("upstream_and_losses", line.rest, upstream + losses, line),
    ]
    if residual:
        found.append(_line("split_residual", line.rest, residual, line))
    return tuple(found)


def _line(part: str, item: BilanItem, kgco2e: Fraction, line: ContextMapping) -> BilanLine:
    return BilanLine(part, item, kgco2e, line.in_beges_energie, line.in_bilan_numerique)


def home_share(
    headcounts: Iterable[Headcount],
    entity: str,
    first: date,
    end: date,
    worked_days_per_week: int = WORKED_DAYS_PER_WEEK,
) -> Fraction | None:
    """Return the share of laptops' time at home over [first, end), 0 to 1, weighted by days.

    It is declared telework days, rounded (published_days), ÷ worked days, of the entity, else of the nearest
    ancestor with a declaration. None where a part of the period has no declaration: absent, never zero. It
    never comes from a machine.
    """
    own = declarations(headcounts, entity)
    return _over_days(own, first, end, worked_days_per_week) if own else None


def declarations(headcounts: Iterable[Headcount], entity: str) -> list[Headcount]:
    """Return the telework declarations of an entity, oldest first:
    its own, else its nearest ancestor's; empty: none.
    """
    known = [one for one in headcounts if one.telework_days_per_week is not None]
    parts = entity.split(" > ")
    for depth in range(len(parts), 0, -1):
        own = [one for one in known if one.entity == " > ".join(parts[:depth])]
        if own:
            return sorted(own, key=lambda one: one.from_day)
    return []


def _over_days(own: list[Headcount], first: date, end: date, worked: int) -> Fraction | None:
    if end <= first or own[0].from_day > first:
        return None
    edges = [*(one.from_day for one in own), end]
    total = Fraction(0)
    for one, until, telework in zip(own, edges[1:], published_days(own, worked), strict=True):
        days = (min(until, end) - max(one.from_day, first)).days
        if days > 0:
            total += telework / worked * days
    return total / (end - first).days


def published_days(own: Iterable[Headcount], worked: int = WORKED_DAYS_PER_WEEK) -> list[Fraction]:
    """Return the published telework days per week of successive declarations of one entity.

    The person-days of a declaration (users × days) are known by their cell alone: a multiple of what
    LEAST_TELEWORK_USERS people can reach at most, and the next one; the days of its middle are published.
    None at all are published as 0. A declaration whose person-days differ by less than a cell from those that
    the present cell was computed of keeps this cell. docs/methodology.md §8 shows that the days of fewer
    people cannot be solved for.
    """
    cell = LEAST_TELEWORK_USERS * worked
    found: list[Fraction] = []
    basis, low = Fraction(0), Fraction(0)
    for one in own:
        most = Fraction(one.users * worked)
        declared = min(one.users * Fraction(one.telework_days_per_week or Decimal(0)), most)
        if not declared or not basis or abs(declared - basis) >= cell or low >= most:
            basis, low = declared, Fraction(declared // cell * cell)
        middle = (low + min(low + cell, most)) / 2 if low < most else most
        found.append(middle / one.users if declared else Fraction(0))
    return found


def split_home(energy_millijoules: int, share: Fraction) -> tuple[int, int]:
    """Split energy into (on site, at home), integers that sum to it.
    Raises ValueError for a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a home share of {share}")
    home = round(energy_millijoules * share)
    return energy_millijoules - home, home
