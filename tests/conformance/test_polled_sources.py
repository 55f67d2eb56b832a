# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every polled source promises (agent/ports.py, Source; wire.vocabulary.POLLED_SOURCES), on the
devices of polled.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.conformance.polled import DEVICES, Device, device_of
from tests.support.metering import hurried, in_a_hurry, measured_values
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading
from veilleuse.agent.ports import Source
from veilleuse.agent.sources import SELF_DETECTING, polled_factory
from veilleuse.agent.sources.snapshot import Outcome, Publication, SnapshotReading, publish, read_publication
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.vocabulary import POLLED_SOURCES

WORDS = {"no_device", "no_permission", "virtual_machine", "missing_library"}
LARGEST_WATTS = 1_000_000
"""More than any machine or rack uses: a larger value from a device must be rejected."""


@pytest.fixture(params=sorted(POLLED_SOURCES))
def name(request: pytest.FixtureRequest) -> str:
    """Give each polled source; fails for one without a device in DEVICES."""
    assert request.param in DEVICES, f"add a device for {request.param} to tests/conformance/polled.py"
    return str(request.param)


@pytest.fixture
def device(name: str, tmp_path: Path) -> Iterator[Device]:
    """Give the source's device, which answers correctly."""
    with device_of(name)(tmp_path) as made:
        yield made


@contextmanager
def opened(name: str, device: Device) -> Iterator[tuple[Source, tuple[Point, ...]]]:
    """Give the source, opened on its device, which must answer now, and its points."""
    source = polled_factory(name)(device.context)
    try:
        yield source, source.open()
    finally:
        source.close()


def hurried_source(name: str, device: Device) -> closing[Source]:
    """Return a source that is not open yet, for a device that answers nothing valid."""
    context = device.context
    return closing(polled_factory(name)(hurried(context) if context.meter else context))


def points_of(readings: tuple[Reading, ...]) -> list[Point]:
    """Return the points of readings of counters and gauges."""
    return [one.point for one in readings if isinstance(one, (EnergyCounter, PowerGauge))]


def check(readings: tuple[Reading, ...], points: tuple[Point, ...]) -> None:
    """Check the properties that every reading has, whatever the device answers."""
    seen = points_of(readings)
    assert set(seen) <= set(points)
    assert len(set(seen)) == len(seen)
    for reading in readings:
        if isinstance(reading, EnergyCounter):
            assert isinstance(reading.energy_microjoules, int)
            assert 0 <= reading.energy_microjoules <= (reading.range_microjoules or 2**63 - 1)
            assert 0 < reading.ceiling_watts <= LARGEST_WATTS
        else:
            assert isinstance(reading, PowerGauge), "nothing else can be published"
            assert isinstance(reading.power_milliwatts, int)
            assert 0 <= reading.power_milliwatts <= LARGEST_WATTS * 1_000


def test_construction_touches_nothing(name, device):
    """Constructing a source contacts no device; its name is that of the table."""
    device.refuse()
    assert polled_factory(name)(device.context).name == name


def test_points_and_readings_agree(name, device, tmp_path):
    """Readings belong to the offered points, at most one each, their domains use the alphabet of facts, and
    all can be published. A source that is wrong by 1,000 does not give the device's expected values."""
    with opened(name, device) as (source, points):
        readings = source.read()
    assert points
    assert measured_values(readings) == device.expected, (
        f"{name} does not give what its device in tests/conformance/ shows: correct the unit or the boundary in "
        "the source, or `expected` if the device says so"
    )
    check(readings, points)
    assert len(set(points)) == len(points)
    assert all(FACT_PATTERN.fullmatch(point.domain) for point in points)
    publication = Publication(
        tuple(SnapshotReading(one, 1_000, 10_000) for one in readings), points, (Outcome(name, "ok"),)
    )
    publish(tmp_path / "published.json", publication)
    assert read_publication(str(tmp_path / "published.json")) == publication


def test_a_configured_point_carries_its_meters_name(name, device):
    """A point's domain is `<meter>` or `<meter>.<part>`, so two meters never share a point."""
    meter = device.context.meter
    if meter is None:
        assert name in SELF_DETECTING, (
            f"add {name} and its device files to SELF_DETECTING in sources/__init__.py: without a meter in the "
            "meters file, no other source is opened"
        )
        return
    with opened(name, device) as (_, points):
        for point in points:
            assert point.domain == meter.meter or point.domain.startswith(f"{meter.meter}.")
            assert point.subject == meter.subject


def test_no_device_is_said_with_a_word_and_a_reason(name, device):
    """A self-detecting source reports a missing device by one of the four words and a reason; a configured
    source always has a device."""
    if device.absent is None:
        assert name not in SELF_DETECTING or device.context.meter is not None
        return
    source = polled_factory(name)(device.absent)
    with pytest.raises(SourceUnavailable) as caught:
        source.open()
    assert caught.value.word in WORDS
    assert caught.value.reason


def test_a_device_that_goes_is_a_failed_read(name, device):
    """Reading an absent device raises ReadFailed, never gives a zero; opening it fails with a reason too."""
    with opened(name, device) as (source, _):
        device.refuse()
        with in_a_hurry(source), pytest.raises(ReadFailed) as caught:
            source.read()
        assert str(caught.value)

    def opens_and_reads(source: Source) -> None:
        source.open()
        source.read()

    with hurried_source(name, device) as other, pytest.raises((ReadFailed, SourceUnavailable)):
        opens_and_reads(other)


def test_a_device_that_comes_back_is_read_again(name, device):
    """A device that returns is read again after close and open, as the polling process does."""
    with opened(name, device) as (source, points):
        device.refuse()
        with in_a_hurry(source), pytest.raises(ReadFailed):
            source.read()
        device.answer()
        source.close()
        assert set(source.open()) == set(points)
        assert source.read()


def test_nonsense_is_no_reading(name, device):
    """Any wrong answer gives possible readings or ReadFailed: no other error, no negative value, nothing
    above the limit."""
    for nonsense in device.nonsense:
        device.answer()
        with opened(name, device) as (source, points):
            nonsense()
            with in_a_hurry(source):
                for _ in range(2):
                    with suppress(ReadFailed):
                        check(source.read(), points)
        with hurried_source(name, device) as other, suppress(ReadFailed, SourceUnavailable):
            points = other.open()
            check(other.read(), points)


def test_a_device_that_never_answers_is_given_up(name, device):
    """A read ends by its timeout, so that its thread is free for the next turn."""
    if device.hang is None:
        return
    with opened(name, device) as (source, _):
        device.hang()
        with in_a_hurry(source), pytest.raises(ReadFailed):
            source.read()
        device.answer()


def test_close_twice(name, device):
    """A source may be closed twice, and before `open`."""
    source = polled_factory(name)(device.context)
    source.close()
    source.open()
    source.close()
    source.close()
