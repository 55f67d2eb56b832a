# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every energy source promises (agent/ports.py, Source), with the same tests for all."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.support.metering import measured_values
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, PowerGauge
from veilleuse.agent.ports import Source, SourceContext
from veilleuse.agent.sources import BUILTIN
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.vocabulary import SOURCES, SOURCES_OF_SYSTEM

FILES = Path(__file__).parents[2] / "agent/veilleuse/agent/sources"
PREFIXES = {system: f"{names[0].partition('_')[0]}_" for system, names in SOURCES_OF_SYSTEM.items()}
NOT_LISTED = {"rapl_snapshot"}
"""It has `open` and `read`, but is part of another source (linux_rapl)."""

TREES = Path(__file__).parents[1] / "fixtures" / "sys"
WHERE: dict[str, tuple[str, dict[str, str] | None]] = {
    "linux_rapl": (
        "laptop",
        {
            "rapl dram-0": "22000.0 J, component",
            "rapl package-0": "184467.440737 J, component",
            "rapl psys": "201000.0 J, machine_dc",
        },
    ),
    "linux_hwmon": ("server_amd_two_dies", {"hwmon power_meter": "287.0 W, wall"}),
    "linux_battery": (
        "laptop",
        {"battery_out BAT0": "9.32 W, machine_dc", "battery_in BAT0": "0.0 W, machine_dc"},
    ),
    "linux_displays": ("laptop", {}),
    "linux_units": ("../cgroup/server_unified", {}),
    "fake": ("laptop", None),
}
"""Source → a tree of files on which it works, and what its points then measure: kind and domain → energy or
power, boundary. None: a value that the files do not give."""


def make(name: str, root: Path, virtualisation: str = "none", watts: float = 10.0) -> Source:
    """Return the source, constructed on a tree."""
    module, _, attribute = BUILTIN[name].partition(":")
    made: Source = getattr(__import__(module, fromlist=[attribute]), attribute)(
        SourceContext(f"{root}/sys", f"{root}/proc", virtualisation, watts)
    )
    return made


def classes(file: Path) -> dict[str, set[str]]:
    """Return the classes of a file → their methods and annotated class attributes."""
    return {
        one.name: {part.name for part in one.body if isinstance(part, ast.FunctionDef)}
        | {ast.unparse(part.target) for part in one.body if isinstance(part, ast.AnnAssign)}
        for one in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(one, ast.ClassDef)
    }


def test_every_source_file_is_listed():
    """Each source file is in SOURCES_OF_SYSTEM or POLLED_SOURCES; a missing one would never be loaded."""
    prefixes = tuple(PREFIXES.values())
    written = {
        file.stem
        for file in FILES.glob("*.py")
        if file.name.startswith(prefixes) or any({"open", "read"} <= has for has in classes(file).values())
    }
    assert written - NOT_LISTED == SOURCES, "list it in proto/veilleuse/wire/vocabulary.py"
    for system, prefix in PREFIXES.items():
        assert {name for name in SOURCES if name.startswith(prefix)} == set(SOURCES_OF_SYSTEM[system]), (
            f"in SOURCES_OF_SYSTEM, {system!r} has exactly the sources whose name starts with {prefix}; the name "
            "of a polled source, which is of every system, starts with no such prefix"
        )


@pytest.mark.parametrize("name", ["fake", *(name for names in SOURCES_OF_SYSTEM.values() for name in names)])
def test_a_source_of_energy_tells_doctor_its_kinds(name):
    """Each source of energy has KINDS, else `doctor` cannot name a missing source. Polled sources are
    reported by their meters."""
    file = FILES / f"{name}.py"
    wanted = name.title().replace("_", "")
    if "PointKind." in file.read_text(encoding="utf-8"):
        assert "KINDS" in classes(file).get(wanted, ()), f"{file.name}: add class {wanted} with its KINDS"


ELSEWHERE = {"polled"}
"""It reads a publication and no device: tests/unit/agent/sources/test_polled.py tests the same."""


@pytest.fixture(params=sorted(BUILTIN.keys() - ELSEWHERE))
def name(request: pytest.FixtureRequest) -> str:
    """Give each built-in source; fails for one without a tree in WHERE."""
    assert request.param in WHERE, (
        f"add {request.param} to WHERE of tests/conformance/test_sources.py: a tree of files, and what its "
        "points then measure"
    )
    return str(request.param)


def test_each_tree_tells_where_it_comes_from():
    """A tree of unknown origin could not be told from the files of a real machine."""
    told = (TREES / "PROVENANCE.md").read_text(encoding="utf-8")
    missing = [tree.name for tree in TREES.iterdir() if tree.is_dir() and f"\n| `{tree.name}` |" not in told]
    assert not missing, f"add a row to tests/fixtures/sys/PROVENANCE.md: {missing}"


def test_construction_touches_nothing(name, tmp_path):
    """Constructing a source with paths that do not exist is harmless; only `open` reads them."""
    make(name, tmp_path / "nowhere")


def test_points_and_readings_agree(name):
    """Each reading belongs to an offered point, at most one each; domains use the alphabet of facts."""
    source = make(name, TREES / WHERE[name][0])
    points = source.open()
    assert len(set(points)) == len(points)
    assert all(FACT_PATTERN.fullmatch(point.domain) for point in points)
    readings = source.read()
    seen = [reading.point for reading in readings if isinstance(reading, (EnergyCounter, PowerGauge))]
    assert set(seen) <= set(points)
    assert len(set(seen)) == len(seen)


def test_values_have_the_unit_of_the_files(name):
    """Each point gives the energy or power of its files: the test finds a source that is wrong by 1,000."""
    tree, expected = WHERE[name]
    source = make(name, TREES / tree)
    source.open()
    assert expected is None or measured_values(source.read()) == expected, (
        f"{name} does not give what WHERE expects of tests/fixtures/sys/{tree}: correct the unit or the "
        "boundary in the source, or the expected value if the files say so"
    )


def test_values_are_whole_and_not_negative(name):
    """Values are integers ≥ 0; a counter is within its range and has a ceiling."""
    source = make(name, TREES / WHERE[name][0])
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
    """Without a device, `open` raises SourceUnavailable with one of the four words, and no other error."""
    with pytest.raises(SourceUnavailable) as caught:
        make(name, tmp_path, virtualisation, watts=0.0).open()
    assert caught.value.word in {"no_device", "no_permission", "virtual_machine", "missing_library"}
    assert caught.value.reason


def test_files_that_go_or_hold_nonsense(name, tmp_path):
    """After any change of its files, a read gives readings or ReadFailed: no other error; deleted files give
    no reading."""
    root = tmp_path / "tree"
    shutil.copytree(TREES / WHERE[name][0], root)
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
    """A source may be closed twice, and before `open`."""
    source = make(name, TREES / WHERE[name][0])
    source.close()
    source.open()
    source.close()
    source.close()
