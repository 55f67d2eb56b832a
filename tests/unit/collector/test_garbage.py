# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of when the whole process collects cyclic garbage."""

from __future__ import annotations

import gc

import pytest

from veilleuse.collector.errors import UsageError
from veilleuse.collector.gc_pause import OBJECTS_BETWEEN, settle, without_garbage_collection


def test_garbage_is_collected_again_once_figures_are_made():
    """Collection is enabled again after an exception, and stays disabled where it was disabled before."""
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
    """Objects that exist at the start are frozen; a later cycle is still collected."""
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
