# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with actions and lines of the REEN sheet: it adds and never changes them.
ports.ActionStore."""

from __future__ import annotations

from datetime import date

import pytest

from tests.conformance.backends import Backend
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.actions import Action, ActionLine, ActionTable, LineChange

ACTION = Action("a", ("s1", "s2"), date(2026, 1, 1), "Extinction à 20 h")
OBJECTIVES, ITEMS = ActionTable.OBJECTIVES, ActionTable.OTHER_ITEMS


def test_an_action_is_replaced_and_withdrawn_and_stays(store: Backend):
    """Each version is listed with who ended it; only the last is in force."""
    later = Action("a", ("s1",), date(2026, 2, 1), "Extinction à 19 h")
    store.follows.enter([ACTION], "ada", "plan", 10)
    store.follows.enter([later], "bob", "site s2 refused", 20)
    with pytest.raises(AdminError, match="no action 'b' is in force"):
        store.follows.withdraw("b", "bob", "", 25)
    store.follows.withdraw("a", "eve", "given up", 30)
    with pytest.raises(AdminError, match="no action 'a' is in force"):
        store.follows.withdraw("a", "eve", "", 35)
    first, second = store.follows.actions()
    assert (first.action, first.withdrawn_unix_milliseconds, first.withdrawn_by) == (ACTION, 20, "bob")
    assert (second.action, second.withdrawn_unix_milliseconds, second.withdrawn_why) == (
        later,
        30,
        "given up",
    )
    store.follows.enter([ACTION], "ada", "again", 40)
    assert [one.withdrawn_unix_milliseconds for one in store.follows.actions()] == [20, 30, None]


def test_lines_in_force_are_the_newest_of_their_keys(store: Backend):
    """A later line replaces an earlier one, None ends it; tables are independent."""
    store.follows.put(
        OBJECTIVES, [LineChange("1", {"a": "x"}), LineChange("2", {"a": "y"})], "o.csv", "ada", "", 10
    )
    store.follows.put(
        OBJECTIVES, [LineChange("1", {"a": "z"}), LineChange("2", None)], "o.csv", "ada", "", 20
    )
    store.follows.put(ITEMS, [LineChange("1", {"b": "é"})], "i.csv", "ada", "", 30)
    assert store.follows.lines(OBJECTIVES) == (ActionLine("1", {"a": "z"}),)
    assert store.follows.lines(ITEMS) == (ActionLine("1", {"b": "é"}),)
