# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the publication file between two processes: what was written is read back, or nothing is."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, SupplyReading
from veilleuse.agent.sources.snapshot import (
    LARGEST_BYTES,
    Outcome,
    Publication,
    SnapshotReading,
    is_publishable,
    publish,
    read_publication,
)
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

PLUG = Point(PointKind.PLUG, "desk-3", Boundary.WALL)
RACK = Point(PointKind.PDU, "rack-a.outlet 7", Boundary.WALL, "meter:rack-a")

WHOLE = st.integers(0, 2**63 - 1)
READINGS = st.one_of(
    st.builds(EnergyCounter, st.sampled_from([PLUG, RACK]), WHOLE, st.none() | WHOLE, st.floats(0.001, 1e9)),
    st.builds(PowerGauge, st.sampled_from([PLUG, RACK]), WHOLE),
)


@given(st.lists(st.builds(SnapshotReading, READINGS, WHOLE, WHOLE), max_size=8), st.text(max_size=20))
def test_what_is_written_is_what_is_read(tmp_path_factory, readings, reason):
    """Each publishable reading is read back with its point and times."""
    path = tmp_path_factory.mktemp("p") / "published.json"
    outcomes = (Outcome("snmp_meter rack-a", "failed", reason, "look", 3, 4), Outcome("nvidia_nvml", "ok"))
    publication = Publication(tuple(readings), (PLUG, RACK), outcomes, "boot-1")
    assert all(is_publishable(one.reading) for one in readings)
    publish(path, publication)
    assert read_publication(str(path)) == publication


def test_the_file_is_the_agents_alone_and_replaced_whole(tmp_path):
    """The file is 0600 by default, whatever the umask, and no temporary file remains."""
    path = tmp_path / "published.json"
    publish(path, Publication((), (), ()))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    inode = path.stat().st_ino
    publish(path, Publication((), (), ()), mode=0o640)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.stat().st_ino != inode
    assert [each.name for each in tmp_path.iterdir()] == ["published.json"]


def test_a_link_in_the_way_is_not_followed(tmp_path):
    """A link at the temporary name is not followed, so it cannot choose which file is overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    (tmp_path / ".published.json.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        publish(tmp_path / "published.json", Publication((), (), ()))
    assert victim.read_text() == "as it was"


def plain(**changes: object) -> dict[str, object]:
    """Return a valid publication with these changes."""
    good: dict[str, object] = {
        "version": 1,
        "points": [["plug", "desk-3", "wall", "machine"]],
        "readings": [["gauge", 1_000, 10_000, 0, 40_000]],
        "outcomes": [["shelly_plug desk-3", "ok", "", "", 1, 0]],
        "boot": "b",
    }
    return good | changes


def test_the_good_one_is_good(tmp_path):
    """The unchanged publication is valid, as is an older writer's without boot and counts."""
    path = tmp_path / "published.json"
    path.write_text(json.dumps(plain()))
    assert read_publication(str(path)).readings[0].reading == PowerGauge(PLUG, 40_000)
    readings = [["gpu_busy", 1_000, 10_000, 0.5], ["gauge", 1_000, 10_000, 0, 40_000]]
    old = plain(outcomes=[["shelly_plug desk-3", "ok", "", ""]], readings=readings)
    del old["boot"]
    path.write_text(json.dumps(old))
    found = read_publication(str(path))
    assert found.outcomes == (Outcome("shelly_plug desk-3", "ok"),)
    assert [one.reading for one in found.readings] == [PowerGauge(PLUG, 40_000)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        "[" * 200_000,
        "\x00",
        json.dumps(plain(version=2)),
        json.dumps(plain(points=[["plug", "a/b", "wall", "machine"]])),
        json.dumps(plain(points=[["plug", "desk-3", "wall", "meter:a/b"]])),
        json.dumps(plain(points=[["plug", "desk-3", "wall", "user"]])),
        json.dumps(plain(points=[["plug", "desk-3", "elsewhere", "machine"]])),
        json.dumps(plain(points=[["plug", "desk-3", "wall"]])),
        json.dumps(plain(readings=[["gauge", 1_000, 10_000, -1, 40_000]])),
        json.dumps(plain(readings=[["gauge", 1_000, 10_000, 1, 40_000]])),
        json.dumps(plain(readings=[["gauge", 1_000, 10_000, 0, -1]])),
        json.dumps(plain(readings=[["gauge", 1_000, 10_000, 0, True]])),
        json.dumps(plain(readings=[["gauge", 1_000, 10_000, 0, 4.5]])),
        json.dumps(plain(readings=[["gauge", 1_000, 10_000, 0, 10**40]])),
        json.dumps(plain(readings=[["gauge", "1", 10_000, 0, 4]])),
        json.dumps(plain(readings=[["counter", 1_000, 10_000, 0, 5, None, float("nan")]])),
        json.dumps(plain(readings=[["counter", 1_000, 10_000, 0, 5, None, 0]])),
        json.dumps(plain(readings=[["counter", 1_000, 10_000, 0, 5, -1, 100]])),
        '{"version":1,"points":[["plug","desk-3","wall","machine"]],"outcomes":[],'
        '"readings":[["counter",1,1,0,5,null,1' + "0" * 400 + "]]}",
        json.dumps(plain(readings=[["supply", 1_000, 10_000, "ac"]])),
        json.dumps(plain(outcomes=[["a"]])),
        json.dumps(plain(outcomes=[["a", "ok", "", "", -1, 0]])),
        json.dumps(plain(outcomes=3)),
        json.dumps(plain(readings=None)),
        json.dumps(plain()) + " " * LARGEST_BYTES,
    ],
)
def test_anything_else_is_a_value_error(tmp_path, text):
    """A cut, oversized or otherwise invalid publication raises ValueError with the file's name."""
    path = tmp_path / "published.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"published\.json"):
        read_publication(str(path))


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else(tmp_path_factory, content):
    """Any short bytes raise ValueError with the file's name."""
    path = tmp_path_factory.mktemp("p") / "published.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"published\.json"):
        read_publication(str(path))


@pytest.mark.parametrize(
    "reading",
    [
        PowerGauge(PLUG, -1),
        PowerGauge(PLUG, 2**63),
        EnergyCounter(PLUG, -1, None, 10.0),
        EnergyCounter(PLUG, 1, 2**63, 10.0),
        EnergyCounter(PLUG, 1, None, float("inf")),
        EnergyCounter(PLUG, 1, None, float("nan")),
        SupplyReading(Supply.AC),
    ],
)
def test_what_a_reader_would_refuse_is_known_before(reading):
    """Such readings are not published, so that one source's defect does not invalidate the whole file."""
    assert not is_publishable(reading)


def test_writing_where_nothing_can_be_written(tmp_path):
    """A missing folder raises OSError."""
    with pytest.raises(OSError, match="No such file"):
        publish(Path(tmp_path / "nowhere" / "published.json"), Publication((), (), ()))
