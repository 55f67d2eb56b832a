# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that the Zabbix templates judge each condition of the table; tests/integration imports them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.zabbix.build import FILES, HOST, OUTPUT
from veilleuse.collector.exposition.conditions import TABLE


def read(language: str) -> dict[str, Any]:
    """Return the template of a language, as committed."""
    (template,) = yaml.safe_load((OUTPUT / FILES[language]).read_text())["zabbix_export"]["templates"]
    return dict(template)


def items(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the items and the prototypes of items."""
    return [
        *template["items"],
        *(one for rule in template["discovery_rules"] for one in rule["item_prototypes"]),
    ]


def triggers(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the triggers and the prototypes of triggers."""
    found = (one.get("triggers", []) + one.get("trigger_prototypes", []) for one in items(template))
    return [trigger for of_one in found for trigger in of_one]


def every_uuid(value: Any) -> Iterator[str]:
    """Yield each UUID of an export."""
    if isinstance(value, dict):
        yield from ([value["uuid"]] if "uuid" in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from every_uuid(one)


@pytest.mark.parametrize("language", FILES)
def test_each_bound_of_the_table_is_a_trigger(language):
    """A condition that is added to the table, or a bound of it, cannot be forgotten here."""
    found = Counter(trigger["name"].split(" {#")[0] for trigger in triggers(read(language)))
    assert found == {f"{one.alert} {severity}": 1 for one in TABLE for severity in one.bounds}


@pytest.mark.parametrize("language", FILES)
def test_triggers_and_sentences_read_items_of_the_template(language):
    """Each key of an expression, and of a sentence, is the key of one item; no placeholder is left empty."""
    template = read(language)
    keys = [item["key"] for item in items(template)]
    assert len(keys) == len(set(keys))
    for trigger in triggers(template):
        read_keys = re.findall(rf"/{HOST[language]}/(veilleuse[\w.]*(?:\[[^]]*\])?)", trigger["expression"])
        read_keys += re.findall(r"\(//([^()]+)\)", trigger["event_name"])
        assert read_keys
        assert set(read_keys) <= set(keys), trigger
        assert not re.search(r"\{[a-z_]+\}", trigger["event_name"] + trigger["description"])


def test_both_templates_may_be_in_one_zabbix():
    """No UUID is used twice, in one language or in both, but for the group that each Zabbix has."""
    found = Counter(one for language in FILES for one in every_uuid(read(language)))
    assert set(found.values()) == {1}
