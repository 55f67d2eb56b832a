# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the commands of `veilleuse-agent` as a user runs them: what each prints, and its exit code."""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.fakes.agent import Agent, energies, record
from tests.support.processes import HANGS, ran
from tests.support.trees import zone
from tests.support.waiting import PATIENCE_SECONDS, comes
from veilleuse.agent.commands import send
from veilleuse.agent.commands.main import COMMANDS, main
from veilleuse.agent.commands.show import GRAIN
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.settings import AgentSettings, Paths
from veilleuse.wire.settings_file import describe
from veilleuse.wire.version import VERSION
from veilleuse.wire.vocabulary import Population


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """Return an agent that is not enrolled, with its configuration file `agent.toml`."""
    made = Agent(tmp_path / "state")
    (tmp_path / "agent.toml").write_text(
        f'[paths]\nstate = "{made.state}"\nsysfs = "{tmp_path / "empty"}"\n[measure]\nperiod_seconds = 10\n'
    )
    return made


def words(agent: Agent, command: str, *more: str) -> list[str]:
    """Return a command line that names the agent's configuration file."""
    return [command, "--config", str(agent.state.parent / "agent.toml"), *more]


def test_the_version_says_what_matters(capsys):
    """`version` and `--version` print the version of pyproject.toml."""
    assert main(["version", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == VERSION
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION
    assert main(["version"]) == 0
    assert VERSION in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"veilleuse-agent {VERSION}\n")


def test_the_default_configuration_is_whole_and_changes_nothing(capsys, tmp_path):
    """`config` prints every key as a comment; the file gives the defaults, commented or not."""
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    for described in describe(AgentSettings):
        assert f"# {described.dotted.rpartition('.')[2]} = " in text
    spoken = re.sub(r"^# ([a-z_0-9]+ = )", r"\1", text, flags=re.MULTILINE)
    for content in (text, spoken):
        file = tmp_path / "agent.toml"
        file.write_text(content)
        from veilleuse.agent.settings import read_settings

        assert read_settings(file, {}) == AgentSettings()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[spool]\nmax_byte = 1\n", "the nearest known key is 'spool.max_bytes'"),
        ("[spool\n", "is not valid TOML"),
        ('[measure]\ntick_seconds = "often"\n', "must be a number"),
        ("[measure]\ntick_seconds = 0.5\n", "at least 1"),
        ('[log]\nlevel = "loud"\n', "use one of debug, info"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line_and_code_2(tmp_path, capsys, content, expected):
    """The message names the file, the fault and the nearest known key."""
    file = tmp_path / "agent.toml"
    file.write_text(content)
    assert main(["doctor", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("veilleuse-agent: ")
    assert said.count("\n") == 1
    assert expected in said
    assert str(file) in said


def test_wrong_usage_is_code_2(capsys):
    """An unknown command or option, no command and a bad value give one line that points to `--help`."""
    for line in (["dance"], [], ["version", "--loud"], ["once", "--seconds", "0"], ["enrol"]):
        assert main(line) == 2
        said = capsys.readouterr().err
        assert said.startswith("veilleuse-agent: ")
        assert "--help'" in said
        assert said.count("\n") == 1


def test_every_command_has_help(capsys):
    """Every command prints its usage for `--help`."""
    for command in COMMANDS:
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_enrolling_from_the_command_line(agent, collector, capsys, tmp_path):
    """`enrol --json` prints the identity; the join file is deleted, unless `--keep` is given."""
    join = collector.join_file(tmp_path / "join")
    assert main(words(agent, "enrol", str(join), "--json", "--keep")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["agent_id"] == agent.identity.agent_id.hex()
    assert (said["population"], said["site"]) == ("server", "Part-Dieu")
    assert join.exists()
    collector.token = "u" * 43
    join = collector.join_file(tmp_path / "join")
    assert main(words(agent, "enrol", str(join))) == 0
    assert not join.exists()


def test_a_refused_token_is_one_line_and_code_1(agent, collector, capsys, tmp_path):
    """The message has no traceback and does not show the token."""
    join = collector.join_file(tmp_path / "join", token="x" * 43)
    assert main(words(agent, "enrol", str(join))) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "token" in said
    assert "x" * 43 not in said


def test_sending_before_enrolling_is_one_line_and_code_1(tmp_path, capsys):
    """`send` names the enrol command, even without a state directory, and creates nothing."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[paths]\nstate = "{tmp_path / "nowhere"}"\n')
    assert main(["send", "--config", str(file)]) == 1
    said = capsys.readouterr().err
    assert "veilleuse-agent enrol" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "nowhere").exists()


def test_sending_from_the_command_line(agent, collector):
    """The process `send` delivers everything and ends with 0; a second one at the same time ends with 1."""
    agent.enrol(collector)
    agent.measure(record(0), record(1))
    command = [sys.executable, "-m", "veilleuse.agent", *words(agent, "send")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert energies(collector.stored(agent.identity.agent_id)) == [1_000, 1_001]
    from veilleuse.agent.platforms.locks import SEND_LOCK, ProcessLock

    with ProcessLock(agent.state, SEND_LOCK, what="a test"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "already running" in done.stderr


def test_a_held_sender_pushes_as_records_come_and_stops_on_sigterm(agent, collector):
    """`send --hold` pushes new records over one connection, with one Hello, and ends with 0."""
    collector.next_send_after_milliseconds = 600_000  # the sender's next turn may come at any moment
    agent.enrol(collector)
    command = [sys.executable, "-m", "veilleuse.agent", *words(agent, "send", "--hold")]
    held = subprocess.Popen(command)
    try:
        for index in range(2):
            agent.measure(record(index))
            expected = [1_000 + one for one in range(index + 1)]
            assert comes(lambda: energies(collector.stored(agent.identity.agent_id)) == expected)  # noqa: B023 - at once
        held.send_signal(signal.SIGTERM)
        assert held.wait(PATIENCE_SECONDS) == 0
    finally:
        held.kill()
        held.wait()
    hellos = [one for one in collector.requests if type(one).__name__ == "HelloRequest"]
    assert len(hellos) == 1


def test_a_held_sender_ends_with_its_parent(agent, collector):
    """A killed resident process leaves no sender behind."""
    agent.enrol(collector)
    child = [sys.executable, "-m", "veilleuse.agent", *words(agent, "send", "--hold", "--attached")]
    code = (
        "import subprocess as s, sys; held = s.Popen(sys.argv[1:], stdin=s.PIPE); "
        f"print(held.pid, flush=True)\n{HANGS}"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, *child], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert comes(lambda: len(collector.requests) > 1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert comes(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_doctor_says_what_is_measured_what_is_not_and_why(agent, capsys):
    """Without sensors, utilisation is available; each energy source has its reason; no output has 0 W or
    J."""
    assert main(words(agent, "doctor", "--json")) == 3
    said = json.loads(capsys.readouterr().out)
    assert set(said) >= {"machine", "sources", "ladder", "identity", "spool", "warnings"}
    sources = {row["name"]: row for row in said["sources"]}
    assert sources["utilisation"]["available"]
    for name in ("linux_rapl", "linux_hwmon", "linux_battery"):
        assert not sources[name]["available"]
        assert sources[name]["points"] == []
        assert sources[name]["reason"]
        assert sources[name]["word"]
    assert [row["method"] for row in said["ladder"]] == [
        "metered",
        "battery",
        "counter_calibrated",
        "counter_modelled",
        "load_modelled",
        "class_default",
    ]
    assert [row["method"] for row in said["ladder"] if row["place"]] == ["load_modelled"]
    assert said["identity"]["enrolled"] is False
    assert any("enrol" in warning for warning in said["warnings"])
    assert main(words(agent, "doctor")) == 3
    text = capsys.readouterr().out
    assert "Energy is not measured" in text
    assert not re.search(r"\b0(\.0+)? ?(m?W|J)\b", text)


def test_doctor_is_content_when_all_is_well(agent, collector, capsys):
    """An enrolled, delivering agent with a live service gives code 0; doctor says the CA is not pinned."""
    agent.enrol(collector)
    agent.measure(record(0))
    assert agent.send()
    sign = {"unix": clock.unix_milliseconds(), "boottime": 1, "monotonic": 1, "boot": "", "why": "tick"}
    agent.with_outbox(lambda outbox: outbox.set_control({"last_sign": json.dumps(sign)}))
    assert main(words(agent, "doctor", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["warnings"] == []
    assert said["identity"]["agent_id"] == agent.identity.agent_id.hex()
    assert said["identity"]["certificate_expired"] is False
    assert said["spool"]["standing"] == "ok"
    assert said["spool"]["records_waiting"] == 0
    assert said["identity"]["ca_pinned"] is False
    assert main(words(agent, "doctor")) == 0
    text = capsys.readouterr().out
    assert "came with the join file" in text
    assert "Nothing to do." in text


def test_doctor_sees_a_clock_that_is_before_the_certificate(agent, collector, capsys):
    """A certificate that begins three days ahead means a late clock: doctor gives its error and the
    remedy."""
    agent.enrol(collector)
    file = agent.state / "id" / "certificate.pem"
    begin = clock.unix_milliseconds() + 3 * 86_400_000
    file.write_bytes(re.sub(rb"not-before: \d+", b"not-before: %d" % begin, file.read_bytes()))
    assert main(words(agent, "doctor", "--json")) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["clock"]["plausible"] is False
    assert said["clock"]["behind_certificate_milliseconds"] == pytest.approx(3 * 86_400_000, abs=60_000)
    (warning,) = [one for one in said["warnings"] if "clock" in one]
    assert "at least 72 h behind" in warning
    assert "set the clock and have it synchronised" in warning
    assert main(words(agent, "doctor")) == 3
    assert "UTC, not plausible\n" in capsys.readouterr().out


def test_the_more_private_population_is_told(agent, collector, capsys, tmp_path, monkeypatch):
    """`show` gave the local population where the enrolment is more private; `doctor` gave the reverse."""
    waiting = tmp_path / "join.json"
    monkeypatch.setenv("VEILLEUSE_AGENT__COLLECTOR__JOIN_FILE", str(waiting))
    monkeypatch.setenv("VEILLEUSE_AGENT__MEASURE__POPULATION", "classroom")
    main(words(agent, "doctor"))
    assert "Identity: none; it measures as classroom\n" in capsys.readouterr().out
    waiting.write_text('{"population": "workstation"}')
    main(words(agent, "doctor"))
    out = capsys.readouterr().out
    assert "Identity: none; it measures as workstation\n" in out
    assert f"not enrolled yet: the service tries with {waiting}\n" in out
    waiting.unlink()
    agent.enrol(collector)
    main(words(agent, "doctor"))
    assert "it measures as classroom: measure.population is the more private one" in capsys.readouterr().out
    agent.with_outbox(lambda outbox: outbox.set_control({ControlKey.POPULATION: "workstation"}))
    main(words(agent, "show"))
    assert "It measures as workstation: closed hours" in capsys.readouterr().out


def test_show_tells_the_periods_that_can_be_set():
    """`show` gives the range of periods of servers that the settings and the collector allow."""
    (period,) = [one for one in describe(AgentSettings) if one.dotted == "measure.period_seconds"]
    assert period.maximum == 3600
    assert "10 s to 1 h (5 min by default)" in GRAIN[Population.SERVER]


def test_doctor_names_a_path_it_cannot_read_once(agent, collector, capsys):
    """The one warning has no error number. A directory is used: root cannot read it as a file either."""
    agent.enrol(collector)
    key = agent.state / "id" / "key.pem"
    key.unlink()
    key.mkdir()
    assert main(words(agent, "doctor", "--json")) == 3
    (warning,) = [one for one in json.loads(capsys.readouterr().out)["warnings"] if "key.pem" in one]
    assert warning == (
        f"cannot read {key}: it is a directory, where a file of the service belongs: see who put it there, then remove it"
    )


@pytest.mark.parametrize("said", ["no_permission", "no_device", "damaged"])
def test_doctor_as_root_says_what_the_service_may_not_read(agent, collector, capsys, tmp_path, said):
    """Doctor as root warns if the service's account lacks the permission to read the counters."""
    agent.enrol(collector)
    zone(tmp_path, "0", "package-0", 123_456)
    config = tmp_path / "agent.toml"
    config.write_text(f'[paths]\nstate = "{agent.state}"\nsysfs = "{tmp_path / "sys"}"\n')
    row = {"name": "linux_rapl", "unavailable": said, "reason": "not readable", "remedy": "run the helper"}
    sources = "[1, 2" if said == "damaged" else json.dumps({"sources": [row]})
    agent.with_outbox(lambda outbox: outbox.set_control({"sources": sources}))
    main(words(agent, "doctor", "--json"))
    found = [one for one in json.loads(capsys.readouterr().out)["warnings"] if "linux_rapl" in one]
    if said == "no_permission":
        (warning,) = found
        assert "the service" in warning
        assert "not readable; run the helper" in warning
    else:
        assert found == []


def test_doctor_sees_a_damaged_spool_and_leaves_it_alone(agent, collector, capsys):
    """The warning names the path; no byte of the file changes."""
    agent.enrol(collector)
    damage = os.urandom(8192)
    agent.path.write_bytes(damage)
    assert main(words(agent, "doctor", "--json")) == 3
    said = json.loads(capsys.readouterr().out)
    assert any(str(agent.path) in warning for warning in said["warnings"])
    assert agent.path.read_bytes() == damage


def test_doctor_reads_a_captured_machine(agent, capsys, tmp_path):
    """Doctor shows the RAPL point of the tree in paths.sysfs, and the ladder is at `counter_modelled`."""
    zone(tmp_path, "0", "package-0", 123_456)
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Intel(R) Core(TM) i5-8500\nflags\t: fpu\n")
    config = tmp_path / "agent.toml"
    config.write_text(f'[paths]\nstate = "{agent.state}"\nsysfs = "{tmp_path / "sys"}"\nprocfs = "{proc}"\n')
    main(words(agent, "doctor", "--json"))
    said = json.loads(capsys.readouterr().out)
    rapl = next(row for row in said["sources"] if row["name"] == "linux_rapl")
    assert rapl["points"] == [
        {"kind": "rapl", "domain": "package-0", "boundary": "component", "subject": "machine"}
    ]
    assert [row["method"] for row in said["ladder"] if row["place"]] == ["counter_modelled"]
    assert said["machine"]["cpu_model"] == "Intel_R_ Core_TM_ i5-8500"


def test_show_prints_in_clear_what_leaves(agent, collector, capsys):
    """`show` prints the waiting record, the sent one, the facts, the standing and what is never sent."""
    agent.enrol(collector)
    agent.measure(record(0))
    assert agent.send()
    agent.measure(record(1))
    assert main(words(agent, "show", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    sent, last = said["last_sent"]["measurement"], said["last_record"]["measurement"]
    assert sent["cells"][0]["energies"][0]["energy_millijoules"] == 1_000
    assert last["cells"][0]["energies"][0]["energy_millijoules"] == 1_001
    assert sent["cells"][0]["state"] == "on_idle"
    assert sent["points"][0] == {
        "kind": "rapl",
        "domain": "package-0",
        "boundary": "component",
        "subject": "machine",
    }
    assert said["records_waiting"] == 1
    assert said["standing"] == "ok"
    assert "user names" in said["never_sent"]
    assert main(words(agent, "show")) == 0
    text = capsys.readouterr().out
    assert "1.001 J" in text
    assert "cpu_count" in said["facts"]
    for name, value in said["facts"].items():
        assert f"  {name}: {value}\n" in text
    assert "night on_idle" in text


def test_show_before_anything_happened(agent, capsys):
    """`show` says that nobody is enrolled and that no record exists."""
    assert main(words(agent, "show")) == 0
    text = capsys.readouterr().out
    assert "not enrolled" in text
    assert "none has been closed yet" in text
    assert main(words(agent, "show", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["last_record"] is None
    assert said["last_sent"] is None


def test_once_measures_this_machine(agent, capsys):
    """`once` measures about a second of the real /proc; energy without a source is absent, with a reason."""
    assert main(words(agent, "once", "--seconds", "1", "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    cells = [cell for one in said["records"] for cell in one["measurement"]["cells"]]
    assert 900 <= sum(cell["milliseconds"] for cell in cells) <= 3_000
    assert all("energies" not in cell for cell in cells)
    assert all(0 <= cell["cpu_busy_milliseconds"] <= cell["cpu_covered_milliseconds"] for cell in cells)
    assert {one["name"] for one in said["unavailable"]} >= {"linux_rapl", "linux_battery"}


def test_once_with_the_fake_source_shows_its_watts(agent, capsys, tmp_path):
    """42 W over about a second give about 42 W on average, under the label `fake`."""
    config = tmp_path / "agent.toml"
    config.write_text(config.read_text() + 'sources = ["fake"]\nfake_watts = 42\n')
    assert main(words(agent, "once", "--seconds", "1")) == 0
    text = capsys.readouterr().out
    (watts,) = re.findall(r"fake .*, ([\d.]+) W", text)
    assert float(watts) == pytest.approx(42, rel=0.02)


def test_the_resident_process_imports_nothing_of_the_sender():
    """The imports of `run` contain no grpc, protobuf, cryptography, ssl; those of `send` no cryptography."""
    code = (
        "import sys, importlib; from veilleuse.agent.commands.main import parse;"
        "parse([sys.argv[1]]); importlib.import_module(sys.argv[2]); print(*sorted(sys.modules))"
    )
    for command, root, forbidden in (
        (
            "run",
            "veilleuse.agent.resident.process",
            {"grpc", "google.protobuf", "cryptography", "ssl", "asyncio"},
        ),
        (
            "send",
            "veilleuse.agent.sending.process",
            {"cryptography", "psutil", "veilleuse.agent.identity.keys", "random"},
        ),
    ):
        done = ran([sys.executable, "-c", code, command, root], check=True)
        assert not forbidden & set(done.stdout.split()), command


def test_a_sender_of_a_service_that_is_not_restarted_yet_ends_by_itself(monkeypatch, tmp_path):
    """A service of 0.2 that still runs after its files were upgraded names its process: the new sender could
    not notice its end, so it makes one contact and does not stay."""
    held: list[bool] = []

    def note(_: AgentSettings, *, hold: bool, attached: bool) -> int:
        held.append(hold)
        return int(attached)

    monkeypatch.setattr("veilleuse.agent.sending.process.send", note)
    settings = AgentSettings(paths=Paths(state=tmp_path))
    parser = argparse.ArgumentParser()
    send.add_arguments(parser)
    for line in (["--hold", "--parent", "1"], ["--hold"], []):
        assert send.run(parser.parse_args(line), settings) == 0
    gc.enable()
    assert held == [False, True, False]
