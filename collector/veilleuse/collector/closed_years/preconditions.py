# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the reasons why a year cannot be closed, or not definitively,
with the remedy for each. docs/closing.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import date
from typing import Final

from veilleuse.collector.account.ghg_items import contexts_without_item, items_from_memory
from veilleuse.collector.closed_years.document import FrozenTerms
from veilleuse.collector.closed_years.restate import class_coverage
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.model.factors import BilanMapping
from veilleuse.collector.model.inventory import Asset, PowerContext
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.ports.months import PendingMonths
from veilleuse.wire.vocabulary import DeviceClass

MEASURABLE: Final = frozenset(one.value for one in DeviceClass) - {
    DeviceClass.UNKNOWN.value,
    DeviceClass.VIRTUAL_MACHINE.value,
}
"""Classes with an agent: only these have a coverage condition."""


def not_over(year: int, today: date) -> str | None:
    """Return the reason why it is too early, for any state; None when it is not."""
    end = date(year + 1, 1, 1)
    if ended_by(today) < end:
        return (
            f"{year} is not over: its last month is kept 3 days after it has ended, close it from "
            f"{end.replace(day=4)} on"
        )
    return None


def of_data(year: int, waiting: PendingMonths) -> Iterator[str]:
    """Yield the reasons in received data."""
    if waiting.periods:
        wait = (
            f"1 period of {year} waits"
            if waiting.periods == 1
            else f"{waiting.periods} periods of {year} wait"
        )
        yield f"{wait} to be derived: run 'veilleuse derive', then close again"
    if waiting.months:
        yield (
            f"{waiting.months} months of machines are not kept yet, or no longer true: 'veilleuse "
            "serve' keeps them in the "
            "background; run 'veilleuse derive', wait a little, then close again"
        )


def of_inventory(doubts: int, assets: Iterable[Asset], year: int) -> Iterator[str]:
    """Yield the reasons in unresolved inventory rows."""
    if doubts:
        rows = "1 row of the inventory is" if doubts == 1 else f"{doubts} rows of the inventory are"
        yield f"{rows} in doubt: look at 'veilleuse inventory review list' and decide"
    end = date(year + 1, 1, 1)
    unknown = sum(
        1
        for asset in assets
        if asset.device_class == DeviceClass.UNKNOWN.value
        and (asset.in_service_on is None or asset.in_service_on < end)
        and (asset.out_of_service_on is None or asset.out_of_service_on > date(year, 1, 1))
    )
    if unknown:
        yield (
            f"{unknown} assets in service in {year} are of no known device class: name their class in "
            "the inventory or map their "
            "type, and import it again"
        )


def of_terms(terms: FrozenTerms, kept: YearStatistics) -> Iterator[str]:
    """Yield the reasons in factors and mapping."""
    for zone, chosen in sorted(terms.factors.items()):
        if chosen.provisional:
            yield (
                f"the factor of {zone} for {chosen.year} is provisional, {chosen.factor.factor_id} "
                "stands in: import the year's own "
                "once it is published (spring of the next year) with 'veilleuse factors import FILE'"
            )
    in_use = {Place.of(one.stratum).power_context for one in kept.fleet}
    in_use |= {Place.of(cell.stratum).power_context for cell in kept.cells if not cell.memo}
    if kept.homes:
        in_use.add(PowerContext.HOME)
    yield from _of_mapping(terms.mapping, in_use)


def _of_mapping(mapping: BilanMapping, in_use: Collection[PowerContext]) -> Iterator[str]:
    """Yield contexts in use without an item, and those whose item nobody has confirmed."""
    missing = contexts_without_item(mapping)
    for context in missing:
        if context in in_use:
            yield (
                f"the item of the bilan carbone is not entered for {context}: run 'veilleuse factors "
                "mapping confirm --eple authority', or with '--eple college --item eple=4.1/3.3'"
            )
    from_memory = {name: item for name, item in items_from_memory(mapping).items() if name in in_use}
    if from_memory:
        options = " ".join(f"--item {item}" for item in from_memory.values())
        holder = " --eple authority" if set(missing) - set(in_use) else ""  # `confirm` asks for it
        yield (
            f"nobody has confirmed the item of the bilan carbone for {', '.join(from_memory)}: ours is from "
            f"memory, look it up in the method of the BEGES, then run 'veilleuse factors mapping confirm {options}{holder}'"
        )


def of_coverage(kept: YearStatistics, minimum_ratio: float) -> Iterator[str]:
    """Yield insufficient coverage of states and energy:
    observed ÷ fleet machine time of classes with an agent.
    """
    seen = class_coverage(kept, MEASURABLE | {AUTRES})
    for name, milliseconds in (("states", seen.states), ("energy", seen.energy)):
        if seen.fleet and milliseconds < minimum_ratio * seen.fleet:
            yield (
                f"coverage of {name} is {milliseconds / seen.fleet:.1%} of the time of the classes that agents run on, below "
                f"closing.coverage_minimum_ratio ({minimum_ratio:.0%}): install more agents, or lower "
                "the setting and say so in --why"
            )
