# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What every energy source promises (agent/ports.py, Source): the same suite for all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, PowerGauge
from veilleuse.agent.ports import Source, SourceContext
from veilleuse.agent.sources import BUILTIN
from veilleuse.wire.limits import FACT_PATTERN

TREES = Path(__file__).parents[1] / "fixtures" / "sys"
WHERE = {
    "linux_rapl": "laptop",
    "linux_hwmon": "server_amd_two_dies",
    "linux_battery": "laptop",
    "linux_displays": "laptop",
    "linux_units": "../cgroup/server_unified",
    "fake": "laptop",
}
"""Source → a tree on which it works."""


def make(name: str, root: Path, virtualisation: str = "none", watts: float = 10.0) -> Source:
    """The source, on a tree."""
    module, _, attribute = BUILTIN[name].partition(":")
    made: Source = getattr(__import__(module, fromlist=[attribute]), attribute)(
        SourceContext(f"{root}/sys", f"{root}/proc", virtualisation, watts)
    )
    return made


ELSEWHERE = {"polled"}
"""Reads no device but a publication: tests/unit/agent/sources/test_polled.py asks it the same."""


@pytest.fixture(params=sorted(BUILTIN.keys() - ELSEWHERE))
def name(request: pytest.FixtureRequest) -> str:
    """Each built-in source; one without a row in WHERE fails here: give it a tree."""
    assert request.param in WHERE, f"add a fixture tree for {request.param}"
    return str(request.param)


def test_construction_touches_nothing(name, tmp_path):
    """Constructing with paths that do not exist is harmless; only `open` looks."""
    make(name, tmp_path / "nowhere")


def test_points_and_readings_agree(name):
    """Every reading belongs to a point that `open` offered, each point at most once, in the fact alphabet."""
    source = make(name, TREES / WHERE[name])
    points = source.open()
    assert len(set(points)) == len(points)
    assert all(FACT_PATTERN.fullmatch(point.domain) for point in points)
    readings = source.read()
    seen = [reading.point for reading in readings if isinstance(reading, (EnergyCounter, PowerGauge))]
    assert set(seen) <= set(points)
    assert len(set(seen)) == len(seen)


def test_values_are_whole_and_not_negative(name):
    """Integers ≥ 0; a counter below its range, with a ceiling."""
    source = make(name, TREES / WHERE[name])
    source.open()
    for reading in source.read():
        if isinstance(reading, EnergyCounter):
            assert isinstance(reading.energy_microjoules, int)
            assert reading.ceiling_watts > 0
            assert 0 <= reading.energy_microjoules <= (reading.range_microjoules or 2**63)
        elif isinstance(reading, PowerGauge):
            assert isinstance(reading.power_milliwatts, int)
            assert reading.power_milliwatts >= 0


@pytest.mark.parametrize("virtualisation", ["none", "kvm", "container"])
def test_nothing_here_is_said_with_a_word_and_a_reason(name, tmp_path, virtualisation):
    """On a machine without the device `open` raises SourceUnavailable with one of the four words, and nothing
    else."""
    with pytest.raises(SourceUnavailable) as caught:
        make(name, tmp_path, virtualisation, watts=0.0).open()
    assert caught.value.word in {"no_device", "no_permission", "virtual_machine", "missing_library"}
    assert caught.value.reason


def test_files_that_go_or_hold_nonsense(name, tmp_path):
    """Whatever becomes of its files after `open`, a read gives readings or ReadFailed: no other error, no
    zero."""
    root = tmp_path / "tree"
    shutil.copytree(TREES / WHERE[name], root)
    source = make(name, root)
    source.open()
    before = source.read()
    for text in ("", "-1", "nonsense", "99999999999999999999999999", "\x00\xff"):
        for path in root.glob("sys/**/*"):
            if path.is_file():
                path.write_text(text)
        _reads_or_fails(source)
    shutil.rmtree(root)
    after = _reads_or_fails(source)
    assert name == "fake" or after == 0
    assert before


def _reads_or_fails(source: Source) -> int:
    try:
        return len(source.read())
    except ReadFailed:
        return 0


def test_close_twice(name):
    """Giving back twice is allowed, also before `open`."""
    source = make(name, TREES / WHERE[name])
    source.close()
    source.open()
    source.close()
    source.close()
