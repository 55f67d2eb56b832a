# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""When cycles of objects are looked for, in the whole process."""

from __future__ import annotations

import gc

import pytest

from veilleuse.collector.errors import UsageError
from veilleuse.collector.gc_pause import OBJECTS_BETWEEN, settle, without_garbage_collection


def test_garbage_is_collected_again_once_figures_are_made():
    """Whatever became of them; and not where it was not before."""
    was: list[bool] = []

    def made() -> None:
        with without_garbage_collection():
            was.append(gc.isenabled())
            raise UsageError("of a year that is closed")

    with pytest.raises(UsageError):
        made()
    assert (was, gc.isenabled()) == ([False], True)
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_service_that_has_settled_looks_through_what_came_since():
    """What it began with is out of the way; a cycle of later is found as before."""
    before = gc.get_threshold()
    try:
        settle()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[0] == OBJECTS_BETWEEN
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
