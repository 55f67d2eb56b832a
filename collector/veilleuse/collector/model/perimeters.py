# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines perimeters: the parts of the fleet for which a yearly figure is given. docs/methodology.md §8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.model.accounts import is_within
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.wire.vocabulary import Population

OTHER: Final = "other"
"""Perimeter of devices that no rule fits."""
_CRITERIA: Final = ("perimeter", "entity", "population", "power_context", "device_class")


@dataclass(frozen=True, slots=True)
class PerimeterRule:
    """A rule: a device is of the perimeter when it meets every criterion that is given."""

    perimeter: str
    entity: str = ""
    """A branch of the tree: this entity and all below it."""
    population: Population | None = None
    power_context: PowerContext | None = None
    device_class: str = ""

    def fits(
        self, entity: str, population: Population | None, context: PowerContext, device_class: str
    ) -> bool:
        """Tell whether a device in this place meets the criteria."""
        return (
            (not self.entity or is_within(entity, (self.entity,)))
            and self.population in (None, population)
            and self.power_context in (None, context)
            and self.device_class in ("", device_class)
        )


@dataclass(frozen=True, slots=True)
class Perimeters:
    """Perimeters of a year, with their declaration. The first rule that fits decides."""

    rules: tuple[PerimeterRule, ...]
    year: int | None = None
    """First year that they hold for; None: the product's default."""
    declared_unix_milliseconds: int | None = None
    declared_by: str = ""
    why: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the perimeters in the order of their first rule, then OTHER."""
        return tuple(dict.fromkeys((*(rule.perimeter for rule in self.rules), OTHER)))

    def find(
        self, entity: str, population: Population | None, context: PowerContext, device_class: str
    ) -> str:
        """Return the perimeter of a device in this place."""
        for rule in self.rules:
            if rule.fits(entity, population, context, device_class):
                return rule.perimeter
        return OTHER

    def document(self) -> list[dict[str, str]]:
        """Return the rules for JSON."""
        return [
            {name: str(value) for name in _CRITERIA if (value := getattr(rule, name))} for rule in self.rules
        ]


def rules_of(document: Iterable[Mapping[str, str]]) -> tuple[PerimeterRule, ...]:
    """Return the rules of a document. Raises KeyError or ValueError for one that is none."""
    return tuple(
        PerimeterRule(
            rule["perimeter"],
            rule.get("entity", ""),
            Population(rule["population"]) if "population" in rule else None,
            PowerContext(rule["power_context"]) if "power_context" in rule else None,
            rule.get("device_class", ""),
        )
        for rule in document
    )


DEFAULT_PERIMETERS: Final = Perimeters(
    (
        PerimeterRule("hosted", power_context=PowerContext.HOSTED),
        PerimeterRule("colleges", power_context=PowerContext.EPLE),
        PerimeterRule("colleges", population=Population.CLASSROOM),
        PerimeterRule("data_centre", population=Population.SERVER),
        PerimeterRule("agents_posts", population=Population.WORKSTATION),
    )
)
"""Perimeters until a user declares others."""


def perimeters_in_force(declared: Iterable[Perimeters], year: int) -> Perimeters:
    """Return the perimeters of a year: those declared last for it, else for the nearest year before it.

    `declared`: all declarations, oldest first.
    """
    found = DEFAULT_PERIMETERS
    for one in declared:
        if one.year is not None and one.year <= year and one.year >= (found.year or 0):
            found = one
    return found
