# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with calibrations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conformance.backends import Backend
from tests.support.pushes import HOUR, MONDAY_10H, NOW, Stream, enrol, gap, realistic
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.calibration import Fit, Hardware, KeptFit, Provenance
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Grain
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.wire.vocabulary import DeviceClass, State

MODEL = Hardware("acme", "desk 7", DeviceClass.SFF)
FACTS = MachineFacts(DeviceClass.SFF, vendor="ACME", model="Desk  7")
LINE = Fit("wall:package", 26_000_000, 1_550_000, 2**62, -(2**61), 10**9, 2_195_266, 9_901, 0, 202_733)
OFF = Fit("off", 2_100_000, 0, 10**10, 0, 0, 1_000_000, 9_901, 0, 202_733)
WHERE = Provenance(
    "readings", "Prise connectée", 3, 1440, 24, "2026-03-02", "2026-03-03", 2000, 320_000, 40_000
)


def kept(fit: Fit, hardware: Hardware = MODEL) -> KeptFit:
    """Return a fit with its provenance."""
    return KeptFit(hardware, fit, WHERE)


def test_what_is_put_is_in_force(store: Backend):
    """A calibration applies to machines of its model only, by quantity, and is read unchanged."""
    assert store.calibrations.book().of(FACTS) is None
    first, second = store.calibrations.put(kept(LINE), NOW), store.calibrations.put(kept(OFF), NOW)
    store.calibrations.put(kept(LINE, MODEL._replace(model="desk 8")), NOW)
    found = store.calibrations.book().of(FACTS)
    assert found is not None
    assert found.wall_for("package") == LINE
    assert found.wall_for("psys") is None
    assert found.standby(State.OFF) == OFF
    assert found.standby(State.ASLEEP) is None
    assert found.standby(State.ON_IDLE) is None
    for other in (replace(FACTS, vendor="other"), replace(FACTS, model=None), MachineFacts()):
        assert store.calibrations.book().of(other) is None
    here = store.calibrations.in_force(MODEL, "wall:package")
    assert here is not None
    assert (here.calibration_id, here.kept, here.applied_unix_milliseconds) == (first, kept(LINE), NOW)
    assert (here.ended_unix_milliseconds, here.ended_by, here.marking) == (None, None, True)
    store.calibrations.end_marking(first)
    assert [one.marking for one in store.calibrations.stored()] == [False, True, True]
    assert second != first


def test_one_takes_the_place_of_the_one_before(store: Backend):
    """Replaced calibrations are kept; after a withdrawal no calibration is in force."""
    first = store.calibrations.put(kept(LINE), NOW)
    better = replace(LINE, slope_ppm=1_600_000)
    second = store.calibrations.put(kept(better), NOW + 1)
    assert [(one.calibration_id, one.ended_by) for one in store.calibrations.stored()] == [
        (first, second),
        (second, None),
    ]
    with pytest.raises(AdminError, match="not in force any more"):
        store.calibrations.withdraw(first, NOW)
    store.calibrations.end_marking(second)
    assert store.calibrations.withdraw(second, NOW + 2).kept.fit == better
    assert store.calibrations.book().of(FACTS) is None
    last = store.calibrations.stored()[-1]
    assert (last.ended_unix_milliseconds, last.ended_by, last.marking) == (NOW + 2, None, True)
    assert store.calibrations.withdraw(second, NOW + 3) == last  # its periods are not all marked
    store.calibrations.end_marking(second)
    with pytest.raises(AdminError, match="not in force any more"):
        store.calibrations.withdraw(second, NOW + 4)
    with pytest.raises(AdminError, match="no calibration 99"):
        store.calibrations.withdraw(99, NOW)


def test_what_is_undone_was_never_in_force(store: Backend):
    """The book that derive reads follows calibrations and withdrawals, also when a writer's job fails after
    them and is rolled back."""
    first = store.calibrations.put(kept(OFF), NOW)
    before = store.calibrations.book().of(FACTS)

    def job() -> None:
        with store.transaction():
            store.calibrations.withdraw(first, NOW)
            store.calibrations.put(kept(LINE), NOW)
            during = store.calibrations.book().of(FACTS)
            assert during is not None
            assert (during.standby(State.OFF), during.wall_for("package")) == (None, LINE)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        job()
    after = store.calibrations.book().of(FACTS)
    assert before == after
    assert after is not None
    assert after.standby(State.OFF) == OFF


def test_all_periods_of_one_host_are_marked(store: Backend):
    """Only the host's periods with measurements are marked, once each."""
    ours, others = Stream(enrol(store.registry)), Stream(enrol(store.registry))
    for stream in (ours, others):
        store.ingest.append(
            [
                stream.send(
                    realistic(MONDAY_10H),
                    gap(),
                    realistic(MONDAY_10H + 300_000),
                    realistic(MONDAY_10H + HOUR),
                )
            ]
        )
    for period in store.derive.dirty(10):
        store.derive.put_aside(period)
    assert store.calibrations.mark_dirty(ours.host_id) == 2
    assert store.calibrations.mark_dirty(ours.host_id) == 2
    assert set(store.derive.dirty(10)) == {
        DirtyPeriod(ours.host_id, Grain.HOUR, MONDAY_10H),
        DirtyPeriod(ours.host_id, Grain.HOUR, MONDAY_10H + HOUR),
    }
