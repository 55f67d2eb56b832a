# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The code reads each setting, and each fact that makes derive run again: none is without effect."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, files
from veilleuse.agent.settings import AgentSettings
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.registry_rows import _WHAT_DERIVE_ASKS
from veilleuse.wire.settings_file import Section, describe


@cache
def attributes_in(file: Path) -> set[tuple[str, str]]:
    """Return (owner, name) of each attribute that a file reads: `self._measure.units` gives ("measure",
    "units").
    """
    return {
        (str(getattr(node.value, "id", getattr(node.value, "attr", ""))).strip("_"), node.attr)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def attributes_read(code: Iterable[Path]) -> set[tuple[str, str]]:
    """Return what these files read."""
    return {one for file in code for one in attributes_in(file)}


@pytest.mark.parametrize(("side", "settings"), [("agent", AgentSettings), ("collector", CollectorSettings)])
def test_each_setting_is_read(side: str, settings: type[Section]):
    """The code of a side reads each of its settings; an unread setting has no effect, and nobody notices.

    It is read from its section, from settings, or by a property of settings.py; an attribute of the same name
    of another object does not count.
    """
    every = list(files(".py", under=ROOT / side))
    read = attributes_read(every)
    of_properties = attributes_read(file for file in every if file.name == "settings.py")
    from_settings = {name for owner, name in read if owner.endswith("settings")}
    from_settings |= {name for owner, name in of_properties if owner == "self"}
    unread = [
        one.dotted
        for one in describe(settings)
        if one.dotted.rpartition(".")[2] not in from_settings
        and tuple(one.dotted.split(".")[-2:]) not in read
    ]
    assert not unread, f"read as <section>.<name> where the setting has its effect, or delete: {unread}"


def test_each_target_is_read_by_an_indicator():
    """An indicator reads each field of Targets; a setting that only reaches Targets has no effect."""
    read = attributes_read(files(".py", under=ROOT / "collector/veilleuse/collector/indicators"))
    unread = {target.name for target in fields(Targets)} - {name for _, name in read}
    assert not unread, f"no file of indicators/ reads these fields of Targets: {sorted(unread)}"


def test_each_fact_that_derive_reads_makes_it_derive_again():
    """Without its line, a fact that comes late would not correct the energy of the days before."""
    here = ROOT / "collector/veilleuse/collector"
    read = attributes_read([*files(".py", under=here / "derive"), here / "model/calibration.py"])
    known = {one.name for one in fields(MachineFacts)} - {"device_class"}  # tells_more compares it itself
    differing = {name for owner, name in read if owner in ("machine", "facts") and name in known}
    differing ^= set(_WHAT_DERIVE_ASKS)
    assert not differing, (
        "add to (or remove from) _WHAT_DERIVE_ASKS in store/sqlite/registry_rows.py, which has the facts that "
        f"derive/ reads as machine.<name> or facts.<name>: {sorted(differing)}"
    )
