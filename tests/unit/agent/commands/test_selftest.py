# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test `veilleuse-agent selftest` on copied trees and a settable clock: what it reads and leaves out."""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.architecture.tree import ROOT
from tests.support.fakes.measuring import FakeClock
from tests.support.trees import TREES
from veilleuse.agent.commands import selftest
from veilleuse.agent.commands.main import main
from veilleuse.agent.commands.selftest import (
    ASLEEP,
    measure,
    plan_phases,
    processor_load,
)
from veilleuse.agent.commands.selftest_report import Cleaner, summary_lines
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge
from veilleuse.agent.platforms import here
from veilleuse.agent.polling.worker import Job, SourceStatus
from veilleuse.agent.settings import AgentSettings, Measure, Paths
from veilleuse.agent.sources.snapshot import Outcome, SnapshotReading
from veilleuse.wire.vocabulary import Boundary, PointKind


class Terminal:
    """Standard input of a person who does something before each answer."""

    def __init__(self, *answers: str, act: Callable[[str], None] = lambda _: None) -> None:
        self._answers = iter(answers)
        self._act = act

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        """Return the next answer; empty at the end of the input."""
        answer = next(self._answers, None)
        self._act(answer or "")
        return "" if answer is None else f"{answer}\n"


class Laptop:
    """A copy of the captured laptop, whose counters advance with the clock."""

    def __init__(self, folder: Path, *sources: str) -> None:
        self.tree = folder / "laptop"
        shutil.copytree(TREES / "laptop", self.tree)
        self.watts = {"intel-rapl:0": 6, "intel-rapl:0:2": 1, "intel-rapl:1": 14}
        self.clock = FakeClock()
        self.clock.on_sleep = self.tick
        self.settings = AgentSettings(
            paths=Paths(sysfs=self.tree / "sys", procfs=self.tree / "proc", meters=folder / "none.toml"),
            measure=Measure(sources=sources, fake_watts=30.0),
        )
        self.ticks = 0

    def file(self, name: str) -> Path:
        """Return a file of the tree."""
        return self.tree / "sys/class" / name

    def tick(self) -> None:
        """Let 10 s of energy pass."""
        self.ticks += 1
        for zone, power in self.watts.items():
            folder = self.file(f"powercap/{zone}")
            path = folder / ("energy_uj" if (folder / "energy_uj").exists() else "away")
            top = int((folder / "max_energy_range_uj").read_text())
            path.write_text(f"{(int(path.read_text()) + power * 10_000_000) % top}\n")

    def on_mains(self, online: int) -> None:
        """Plug or unplug the power supply."""
        self.file("power_supply/AC/online").write_text(f"{online}\n")
        self.file("power_supply/BAT0/status").write_text("Full\n" if online else "Discharging\n")


@pytest.fixture
def no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make no load: the clock is a fake, and its two minutes take no time."""
    monkeypatch.setattr(selftest, "processor_load", lambda _seconds: nullcontext())


@pytest.fixture
def no_wait(no_load: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command's own clock pass without waiting."""

    class OwnClock(FakeClock):
        def __init__(self, _procfs: str) -> None:
            super().__init__()

        def close(self) -> None:
            pass

    monkeypatch.setattr(selftest, "SystemClock", OwnClock)


def phases(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the phases of a document by name."""
    return {phase["name"]: phase for phase in document["phases"]}


def watts(phase: dict[str, Any]) -> dict[str, float]:
    """Return the mean power of each point of a phase."""
    return {point["point"]: point["mean_watts"] for point in phase["points"]}


# ---------------------------------------------------------------------------------------- the plan


@pytest.mark.parametrize("seconds", [6, 60, 900, 7200])
@pytest.mark.parametrize("attended", [True, False])
@pytest.mark.parametrize("battery", [True, False])
def test_the_phases_fill_the_time(seconds, attended, battery):
    """All phases together last as long as asked; the idle machine gets a fifth at least."""
    found = plan_phases(seconds, attended=attended, has_battery=battery)
    assert sum(phase.seconds for phase in found) == seconds
    assert found[0].name == "idle"
    assert found[0].seconds * 5 >= seconds
    names = [phase.name for phase in found]
    assert ("screens_off" in names, ASLEEP in found) == (attended, attended)
    assert ("battery" in names) == (attended and battery)
    assert not any(phase.ask for phase in found) or attended


# --------------------------------------------------------------------------------- what it measures


def test_an_unattended_laptop(tmp_path, no_load, monkeypatch):
    """Each phase has the power of each point; counters, coverage and the checks of the powers are told.

    The slow sources take a moment in which no counter advances: it costs the next phase no reading.
    """
    laptop = Laptop(tmp_path)

    def polled(_settings: AgentSettings) -> tuple[SourceStatus, ...]:
        laptop.clock.advance(50)
        return ()

    monkeypatch.setattr(selftest, "poll_once", polled)
    document, ended = measure(laptop.settings, 15, laptop.clock, attended=False)
    assert not ended
    assert [phase["name"] for phase in document["phases"]] == ["idle", "load", "rest"]
    assert sum(phase["seconds"] for phase in document["phases"]) == 900
    for phase in document["phases"]:
        assert (
            watts(phase).items()
            >= {
                "rapl package-0 (component)": 6.0,
                "rapl dram-0 (component)": 1.0,
                "rapl psys (machine_dc)": 14.0,
            }.items()
        )
        assert all(point["coverage"] == 1.0 for point in phase["points"])
        assert phase["late_milliseconds"] == {"median": 0, "largest": 0}
    assert {one["check"]: one["holds"] for one in document["plausibility"]}["package is at most psys"]
    counters = {one["point"]: one for one in document["counters"]}
    package = counters["rapl package-0 (component)"]
    assert (package["resets"], package["wraps"], package["unchanged"]) == (0, 0, 0)
    assert package["smallest_step_joules"] == 60
    assert phases(document)["idle"]["displays_on"] == {
        "under_22": 0,
        "22_to_27": 1,
        "over_27": 0,
        "unknown": 0,
    }
    assert next(one["name"] for one in document["sources"] if one["available"]) == "linux_rapl"


def test_a_person_at_a_laptop(tmp_path, no_load, monkeypatch):
    """The person turns the screens off, unplugs, and lets the machine sleep; each state is seen."""
    laptop = Laptop(tmp_path)
    laptop.on_mains(1)
    steps = iter(("screens", "unplug", "sleep"))

    def act(_answer: str) -> None:
        step = next(steps)
        if step == "unplug":
            laptop.on_mains(0)
        elif step == "sleep":
            laptop.clock.advance(45_000, asleep=True)
            laptop.clock.advance(5_000)

    monkeypatch.setattr("sys.stdin", Terminal("", "", "", act=act))
    document, _ = measure(laptop.settings, 15, laptop.clock, attended=True)
    found = phases(document)
    assert list(found) == ["idle", "load", "rest", "screens_off", "battery", "asleep"]
    assert found["idle"]["supplies_seconds"] == {"ac": found["idle"]["seconds"]}
    assert found["battery"]["supplies_seconds"] == {"battery": 180.0}
    assert found["asleep"]["states_seconds"]["asleep"] == 45
    battery = watts(found["battery"])["battery_out BAT0 (machine_dc)"]
    checks = {(one["phase"], one["check"]): one for one in document["plausibility"]}
    psys = checks["battery, W", "psys is at most 1.2 times the battery's discharge"]
    assert psys["values"] == [14.0, pytest.approx(battery * 1.2)]
    assert psys["holds"] is (battery * 1.2 >= 14)
    assert document["attended"] is True


def test_a_person_who_skips(tmp_path, no_load, monkeypatch):
    """A skipped state has no result; so has the end of the input."""
    laptop = Laptop(tmp_path)
    monkeypatch.setattr("sys.stdin", Terminal("s", "S"))
    document, _ = measure(laptop.settings, 2, laptop.clock, attended=True)
    assert list(phases(document)) == ["idle", "load", "rest"]


def test_failures_wraps_and_resets_are_told(tmp_path, no_load):
    """A counter that cannot be read, wraps or is set back shows in the result, with the reason."""
    laptop = Laptop(tmp_path, "linux_rapl")
    package = laptop.file("powercap/intel-rapl:0")
    top = int((package / "max_energy_range_uj").read_text())

    def act() -> None:
        laptop.tick()
        if laptop.ticks == 3:
            (package / "energy_uj").write_text("1000000\n")
        elif laptop.ticks == 5:
            for zone in laptop.watts:
                laptop.file(f"powercap/{zone}/energy_uj").rename(laptop.file(f"powercap/{zone}/away"))
        elif laptop.ticks == 7:
            for zone in laptop.watts:
                laptop.file(f"powercap/{zone}/away").rename(laptop.file(f"powercap/{zone}/energy_uj"))
        elif laptop.ticks == 20:
            (package / "energy_uj").write_text(f"{top - 1}\n")

    laptop.clock.on_sleep = act
    document, _ = measure(laptop.settings, 15, laptop.clock, attended=False)
    (failure,) = phases(document)["idle"]["failures"]
    assert failure == {
        "source": "linux_rapl",
        "reason": "no RAPL counter under /sys/class/powercap could be read",
        "reads": 2,
    }
    counters = {one["point"]: one for one in document["counters"]}
    told = counters["rapl package-0 (component)"]
    assert (told["resets"], told["wraps"], told["unchanged"]) == (2, 1, 0), (
        "set back, set forth, and over the top"
    )
    assert counters["rapl psys (machine_dc)"]["resets"] == 0
    assert max(watts(phases(document)["idle"]).values()) < 15, "no energy is made up"


def test_the_fake_source_is_named_fake(tmp_path, no_load):
    """Made-up energy is labelled in the points and in the row."""
    laptop = Laptop(tmp_path, "fake")
    document, _ = measure(laptop.settings, 2, laptop.clock, attended=False)
    assert set(watts(phases(document)["load"])) == {"fake fake (wall)"}
    assert "| idle: fake fake " in document["row"]


def test_the_row_and_the_summary(tmp_path, no_load):
    """The row fits the table of docs/sources.md; the summary says what was read."""
    laptop = Laptop(tmp_path)
    document, _ = measure(laptop.settings, 15, laptop.clock, attended=False)
    section = (ROOT / "docs/sources.md").read_text(encoding="utf-8").split("## Results from real machines")[1]
    head, _, *rows = (line for line in section.split("What we never ran")[0].splitlines() if line[:1] == "|")
    assert document["row"].count("|") == head.count("|") == 6
    assert ("No row yet: nobody has sent a result." in section) is not bool(rows)
    assert (
        "| idle: rapl dram-0 1.0, rapl package-0 6.0, rapl psys 14.0, battery_out BAT0 9.3 W; load: "
        in document["row"]
    )
    lines = list(summary_lines(document, "result.json"))
    assert "Written: result.json" in lines
    assert any("Nothing was sent" in line for line in lines)
    assert "  NOT SO: psys is at most 1.2 times the battery's discharge (idle, W: 14.00 and 11.18)" in lines
    assert f"{sum(one['holds'] for one in document['plausibility'])} of 11 checks hold" in lines
    assert lines[-1] == document["row"]
    text = json.dumps(document, indent=1)
    assert "Nothing was sent" in text[:400], "the first lines of the file say it"


def test_slow_sources(tmp_path, no_load, monkeypatch):
    """Gauges and counters of slow sources are read per phase; a meter's own name and reason are left out."""
    laptop = Laptop(tmp_path)
    card = Point(PointKind.GPU, "gpu-0", Boundary.COMPONENT)
    plug = Point(PointKind.PLUG, "desk of Camille", Boundary.WALL)

    def status(
        source: str, meter: str, word: str, reading: EnergyCounter | PowerGauge | None = None
    ) -> SourceStatus:
        readings = (reading,) if reading else ()
        return SourceStatus(
            Job(source, source, meter, pytest.fail, 10, 1.0),
            tuple(one.point for one in readings),
            tuple(SnapshotReading(one, 0, 10_000) for one in readings),
            Outcome(source, word, f"because {meter}" if not readings else ""),
        )

    def polled(_settings: AgentSettings) -> tuple[SourceStatus, ...]:
        energy = laptop.clock.now().boottime_milliseconds * 40_000
        return (
            status("nvidia_nvml", "", "ok", PowerGauge(card, 21_500)),
            status("shelly_plug", "camille", "ok", EnergyCounter(plug, energy, None, 4000.0)),
            status("tasmota_plug", "camille2", "failed"),
            status("ipmi_dcmi", "", "no_device"),
        )

    monkeypatch.setattr(selftest, "poll_once", polled)
    document, _ = measure(laptop.settings, 15, laptop.clock, attended=False)
    assert [[one["watts"] for one in phase["polled"]] for phase in document["phases"]] == [
        [21.5, None],
        [21.5, 40.0],
        [21.5, 40.0],
    ]
    row = document["row"]
    assert "9.3, gpu gpu-0 21.5 W; load: rapl" in row
    assert "9.3, gpu gpu-0 21.5, plug 40.0 W; rest: rapl" in row
    assert "tasmota_plug: failed, ipmi_dcmi: no_device" in row
    lines = list(summary_lines(document, "result.json"))
    assert "  - tasmota_plug: failed" in lines
    assert "  - ipmi_dcmi: because " in lines
    assert "amille" not in json.dumps(document)


# ------------------------------------------------------------------------------------ without a name


@pytest.mark.parametrize(
    "text",
    [
        "no answer from 10.77.31.9:161",
        "no answer from [2001:db8::77:31]:443",
        "card 02:ca:9a:71:00:5e is down",
        "/home/camille/veilleuse/meters.toml is missing",
        "C:\\Users\\camille\\AppData is missing",
        r"\\?\usb#vid_1&pid_2#canary77serial#{a5dcbf10-6530-11d2-901f-00c04fb951ed} is gone",
        "machine 4c4c4544-00ca-9a71-8052-b4c04f4a4e32",
        "machine ca9a71f05eb3479d8e1c6b2a0d4f7395",
    ],
)
def test_texts_are_cleaned(text):
    """Addresses, ids and folders of people are replaced; the words around them stay."""
    cleaned = Cleaner(AgentSettings())(text)
    assert "…" in cleaned
    assert not re.search(r"77|camille|ca9a71|02:ca|2001", cleaned)
    assert any(word in cleaned for word in ("answer", "down", "missing", "gone", "machine"))


def test_the_machine_s_name_and_the_user_s_are_cleaned(monkeypatch, tmp_path):
    """Names of this machine and of its user are replaced, in any case, in the middle of a text."""
    monkeypatch.setattr(here, "host_name", lambda: "pc-camille-77.example.org")
    monkeypatch.setattr(Path, "home", lambda: Path("/home/duponc"))
    cleaned = Cleaner(AgentSettings())("PC-Camille-77 of Duponc: pc-camille-77.example.org")
    assert not re.search("camille|duponc", cleaned, re.IGNORECASE)


def test_public_paths_stay():
    """A path of the kernel says which file failed, and names nobody."""
    clean = Cleaner(AgentSettings(paths=Paths(sysfs=Path("/srv/camille/sys"))))
    assert clean("cannot read /sys/class/drm/card0/status") == "cannot read /sys/class/drm/card0/status"
    assert clean("cannot read /srv/camille/sys/class/drm") == "cannot read /sys/class/drm"
    assert clean("intel-rapl:0:2 dram; hwmon3 coretemp") == "intel-rapl:0:2 dram; hwmon3 coretemp"


# ---------------------------------------------------------------------------------------- the command


def command(tmp_path: Path, *more: str) -> list[str]:
    """Return the words of a short test with the fake source."""
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[paths]\nsysfs = "{tmp_path}/sys"\nmeters = "{tmp_path}/none.toml"\n'
        '[measure]\ntick_seconds = 1\nsources = ["fake"]\n'
    )
    return ["selftest", "--config", str(config), "--minutes", "0.1", "--unattended", *more]


def test_the_file_is_new(tmp_path, capsys, monkeypatch):
    """The command writes a file of its own name, prints the summary, and refuses an existing file at once."""
    monkeypatch.chdir(tmp_path)
    assert main(command(tmp_path)) == 0
    (path,) = tmp_path.glob("veilleuse-selftest-*.json")
    assert re.fullmatch(r"veilleuse-selftest-\d{4}-\d\d-\d\d-[0-9a-f]{8}\.json", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    document = json.loads(path.read_text())
    assert document["row"] in capsys.readouterr().out
    monkeypatch.setattr(selftest, "measure", None)
    assert main(command(tmp_path, "--output", str(path))) == 1
    assert path.name in capsys.readouterr().err
    assert json.loads(path.read_text()) == document
    assert main(command(tmp_path, "--json", "--output", "x.json")) == 2
    assert "--json writes no file" in capsys.readouterr().err


def test_json_goes_to_standard_output(tmp_path, no_wait, capsys, monkeypatch):
    """With --json nothing is written, and standard output is the document alone."""
    monkeypatch.chdir(tmp_path)
    assert main(command(tmp_path, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["phases"]
    assert not list(tmp_path.glob("veilleuse-*"))


def test_an_interrupted_test_keeps_what_it_has(tmp_path, capsys, monkeypatch):
    """Ctrl-C ends the test with 130, and writes the phases so far."""
    laptop = Laptop(tmp_path, "fake")

    def act() -> None:
        laptop.ticks += 1
        if laptop.ticks == 5:
            raise KeyboardInterrupt

    laptop.clock.on_sleep = act
    document, ended = measure(laptop.settings, 15, laptop.clock, attended=False)
    assert ended
    assert document["ended_early"] is True
    assert [phase["name"] for phase in document["phases"]] == ["idle"]
    assert phases(document)["idle"]["seconds"] == 30


def test_nothing_to_measure(tmp_path, monkeypatch, capsys):
    """Without any source and without a load there is no result, and the error names doctor."""
    monkeypatch.setattr("veilleuse.agent.sources.UTILISATION", "veilleuse.agent.nowhere:Nothing")
    words = command(tmp_path)
    (tmp_path / "agent.toml").write_text(
        f'[paths]\nsysfs = "{tmp_path}/sys"\n[measure]\nsources = ["linux_battery"]\n'
    )
    assert main([*words, "--output", str(tmp_path / "result.json")]) == 1
    assert "doctor" in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()


def test_the_load_ends_with_the_test():
    """One child per processor works, and none is left."""
    own = psutil.Process()
    before = set(own.children())
    with processor_load(30):
        children = set(own.children()) - before
        assert len(children) == psutil.cpu_count()
    assert not any(child.is_running() for child in children)
