# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A fit in a request from the command to the collector."""

from __future__ import annotations

import pytest

from veilleuse.collector.model.calibration import Fit, Hardware, KeptFit, Provenance, facts_of, from_facts
from veilleuse.wire.vocabulary import DeviceClass

KEPT = KeptFit(
    Hardware("acme", "desk 7", DeviceClass.SFF),
    Fit("wall:package", 26_000_000, 1_550_000, 10**12, -(10**9), 10**9, 2_195_266, 9_901, 0, 202_733),
    Provenance("meters", "plug", 3, 1440, 24, "2026-03-02", "2026-03-02", 2000, 320_000, 40_000),
)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"base_microwatts": 1.5}, "base_microwatts is no whole number"),
        ({"base_microwatts": True}, "base_microwatts is no whole number"),
        ({"slope_ppm": -1}, "slope_ppm is no whole number from 0"),
        ({"base_variance": 2**63}, "base_variance is no whole number"),
        ({"quantity": "wall:"}, "is none"),
        ({"quantity": "cost"}, "is none"),
        ({"quantity": None}, "quantity is no text"),
        ({"vendor": " "}, "vendor or model is empty"),
        ({"model": "x\n"}, "model is no text"),
        ({"model": "x" * 129}, "model is no text"),
        ({"device_class": "car"}, "car"),
        ({"more": 1}, "unknown or missing: more"),
        ({"provenance": 3}, "provenance is missing"),
        ({"provenance": {}}, "provenance, unknown or missing"),
    ],
)
def test_only_a_whole_fit_is_one(change, why):
    """Each field of a request is checked."""
    assert from_facts(facts_of(KEPT)) == KEPT
    with pytest.raises(ValueError, match=why):
        from_facts({**facts_of(KEPT), **change})
