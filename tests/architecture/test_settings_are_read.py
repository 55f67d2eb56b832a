# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The code of each side reads its settings: none is documented without effect."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, files
from veilleuse.agent.settings import AgentSettings
from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.settings_file import Section, describe


def attributes_read(code: Iterable[Path]) -> set[str]:
    """Return the names that any of these files reads as an attribute.

    In settings.py, only reads by a property, as `self.name`, count.
    """
    return {
        node.attr
        for file in code
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
        if file.name != "settings.py" or (isinstance(node.value, ast.Name) and node.value.id == "self")
    }


@pytest.mark.parametrize(("side", "settings"), [("agent", AgentSettings), ("collector", CollectorSettings)])
def test_each_setting_is_read(side: str, settings: type[Section]):
    """The code of a side reads each of its settings; an unread setting has no effect, and nobody notices."""
    read = attributes_read(files(".py", under=ROOT / side))
    assert [one.dotted for one in describe(settings) if one.dotted.rpartition(".")[2] not in read] == []


def test_each_target_is_read_by_an_indicator():
    """An indicator reads each field of Targets; a setting that only reaches Targets has no effect."""
    read = attributes_read(files(".py", under=ROOT / "collector/veilleuse/collector/indicators"))
    assert {target.name for target in fields(Targets)} - read == set()
