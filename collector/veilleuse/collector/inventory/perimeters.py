# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads a file of perimeters, in TOML. The first rule that fits a device decides.

[[perimeter]]
name = "colleges"
entity = "Métropole > Collèges"       # this entity and all below it
[[perimeter]]
name = "colleges"
population = "classroom"
[[perimeter]]
name = "data_centre"
population = "server"
power_context = "own_site"            # a rule with two criteria needs both
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.mapping import (
    DEVICE_CLASSES,
    entity_in,
    require_known,
    tables_in,
    text_in,
)
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import SEVERAL, TOTAL, PerimeterRule
from veilleuse.wire.settings_file import parse_toml
from veilleuse.wire.vocabulary import Population

MAXIMUM_BYTES: Final = 64 * 1024
MAXIMUM_PERIMETERS: Final = 12
"""Most perimeters: each is a line of the report and a label of /metrics."""
_CRITERIA: Final = ("entity", "population", "power_context", "device_class")
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "population": frozenset(one.value for one in Population),
    "power_context": frozenset(one.value for one in PowerContext if one is not PowerContext.HOME),
    "device_class": DEVICE_CLASSES,
}
_NAME: Final = re.compile(r"\w[\w .'’()-]{0,63}")


def read_perimeters(text: str, name: str) -> tuple[PerimeterRule, ...]:
    """Read a file of perimeters. Raises UsageError for an unknown word, with the nearest known one."""
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{name} is no TOML: {error}") from error
    require_known(document, {"perimeter"}, name)
    rules = tuple(
        _rule(table, f"{name}, [[perimeter]] {number}")
        for number, table in enumerate(tables_in(document, "perimeter", name), 1)
    )
    if not rules:
        raise UsageError(f"{name} declares no perimeter: write [[perimeter]] with name and a criterion")
    _require_few(rules, name)
    return rules


def _rule(table: Mapping[str, Any], where: str) -> PerimeterRule:
    require_known(table, {"name", *_CRITERIA}, where)
    perimeter = text_in(table, "name", where)
    if not _NAME.fullmatch(perimeter):
        raise UsageError(f"{where}: it needs a 'name' of at most 64 letters, digits, spaces and . - ' ( )")
    if perimeter in (SEVERAL, TOTAL):
        raise UsageError(f"{where}: reports have a row '{perimeter}' of their own: choose another 'name'")
    given = [key for key in _CRITERIA if key in table]
    if not given:
        raise UsageError(f"{where}: it needs at least one of {', '.join(_CRITERIA)}")
    for key in given:
        if key != "entity":
            require_known({text_in(table, key, where): ""}, _WORDS[key], f"{where}, '{key}'")
    return PerimeterRule(
        perimeter,
        entity_in(table, "entity", where) if "entity" in table else "",
        Population(table["population"]) if "population" in table else None,
        PowerContext(table["power_context"]) if "power_context" in table else None,
        table.get("device_class", ""),
    )


def _require_few(rules: Iterable[PerimeterRule], name: str) -> None:
    count = len({rule.perimeter for rule in rules})
    if count > MAXIMUM_PERIMETERS:
        raise UsageError(f"{name} has {count} perimeters: use at most {MAXIMUM_PERIMETERS}")
