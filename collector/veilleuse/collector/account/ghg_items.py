# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What energy is for the bilan carbone: items of BEGES and GHG Protocol, the home share, what a change of factor is (pure).

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
from veilleuse.collector.model.inventory import Headcount, PowerContext
from veilleuse.collector.ports import ChosenFactor

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
"""docs/methodology.md §8, until a user confirms it."""

METHOD_CHANGE: Final = "factor + ADEME method change"
FACTOR_CHANGE: Final = "factor"
WORKED_DAYS_PER_WEEK: Final = 5
"""That telework days are out of [P]."""


@dataclass(frozen=True, slots=True)
class BilanLine:
    """A part of a figure and where it goes."""

    part: str
    """combustion, upstream_and_losses, split_residual, or total where it is not split."""
    item: BilanItem
    kgco2e: Fraction
    in_beges_energie: bool
    in_bilan_numerique: bool


def with_eple(mapping: BilanMapping, own_contract: bool, entered: BilanItem | None = None) -> BilanMapping:
    """The mapping with a college's own meter decided: as own_site where the contract is the authority's, else as entered.

    Raises ValueError when the contract is the college's and no item is entered.
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
    """The mapping with one line in the place of its context's."""
    return replace(
        mapping, lines=tuple(line if one.context is line.context else one for one in mapping.lines)
    )


def unresolved(mapping: BilanMapping) -> tuple[PowerContext, ...]:
    """Contexts whose item is still to be entered."""
    return tuple(line.context for line in mapping.lines if not line.combustion.beges_item)


def bilan_lines(context: PowerContext, billed: Emissions, mapping: BilanMapping) -> tuple[BilanLine, ...]:
    """Where the emissions of a context go; the lines sum to its total, exactly.

    Split: combustion apart from upstream and losses; what the published total differs from its parts goes with the latter,
    as a line of its own. Where a factor has no components, all of it goes where combustion does.
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
    """Share of laptops' time at home over [first, end): declared telework days ÷ worked days, 0 to 1, weighted by days.

    Of the entity, else of the nearest one above it that declares some. None where, for a part of the period, nobody did: absent,
    never zero. Never from a machine.
    """
    own = declarations(headcounts, entity)
    return _over_days(own, first, end, worked_days_per_week) if own else None


def declarations(headcounts: Iterable[Headcount], entity: str) -> list[Headcount]:
    """Those of telework days that stand for an entity, oldest first: its own, else of the nearest one above it; empty: nobody's."""
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
    for one, until in zip(own, edges[1:], strict=True):
        days = (min(until, end) - max(one.from_day, first)).days
        if days > 0:
            telework = Fraction(one.telework_days_per_week or Decimal(0))
            total += min(Fraction(1), telework / worked) * days
    return total / (end - first).days


def split_home(energy_millijoules: int, share: Fraction) -> tuple[int, int]:
    """(on site, at home) in integers that sum to the energy. Raises ValueError for a share outside 0 to 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"a home share of {share}")
    home = round(energy_millijoules * share)
    return energy_millijoules - home, home


def factor_change(before: ChosenFactor, after: ChosenFactor) -> str | None:
    """What the factor effect of a change is, in words: across two series it is the method too; None: nothing changed.

    docs/methodology.md §8: ADEME's annual series ends with 2023, the one smoothed over four years begins with 2024.
    """
    old, new = before.factor, after.factor
    if old.series != new.series:
        return METHOD_CHANGE if new.factor_id.startswith("ADEME-") else f"{FACTOR_CHANGE} + method change"
    changed = old.factor_id != new.factor_id or old.total_kgco2e_per_kwh != new.total_kgco2e_per_kwh
    return FACTOR_CHANGE if changed else None
