# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test IPMI DCMI (sources/ipmi_dcmi.py, sources/run_program.py) with fake tools that print real outputs."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.support.fakes.ipmi_tools import FakeTool
from tests.support.metering import PATIENT_SECONDS, in_a_hurry
from tests.support.waiting import until
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, PowerGauge
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.ipmi_dcmi import IpmiDcmi
from veilleuse.agent.sources.run_program import LARGEST_OUTPUT_BYTES, Program
from veilleuse.wire.vocabulary import Boundary, PointKind

TOOLS = ["ipmitool", "ipmi-dcmi"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a machine with a controller, test folders for /dev and /usr/bin, and no pause between reads."""
    devices, tools = tmp_path / "dev", tmp_path / "bin"
    devices.mkdir()
    tools.mkdir()
    (devices / "ipmi0").touch()
    monkeypatch.setattr(IpmiDcmi, "TOOL_FOLDERS", (str(tools),))
    monkeypatch.setattr(IpmiDcmi, "PAUSE_SECONDS", 0.0)
    return tmp_path


@pytest.fixture(params=TOOLS)
def tool(request, machine):
    """Install one of the tools."""
    return FakeTool(machine / "bin", request.param)


def here(machine: Path, virtualisation: str = "none") -> SourceContext:
    """Return the context of the machine itself, without configuration."""
    return SourceContext(f"{machine}/sys", f"{machine}/proc", virtualisation)


def meter(
    machine: Path, timeout_seconds: float = PATIENT_SECONDS, address: str = "", **options: str | int | bool
) -> SourceContext:
    """Return the context of a configured meter: another machine's, or this machine's with its own bounds."""
    spec = MeterSpec(
        "bmc-3", "ipmi_dcmi", address, "meter:bmc-3", Boundary.WALL, 30, timeout_seconds, 1000.0, "", options
    )
    return here(machine)._replace(meter=spec)


def test_this_machines_power(machine, tool):
    """Either tool gives 214 W at the wall of this machine."""
    source = IpmiDcmi(here(machine))
    (point,) = source.open()
    assert point == Point(PointKind.BMC, "bmc", Boundary.WALL, "machine")
    assert source.read() == (PowerGauge(point, 214_000),)
    assert "PATH" in tool.environment()
    assert tool.environment()["LC_ALL"] == "C"
    source.close()
    source.close()


def test_the_arguments_are_fixed(tool, machine):
    """The arguments name the kernel's driver: otherwise FreeIPMI would probe the board's ports."""
    (machine / "dev" / "ipmi0").rename(machine / "dev" / "ipmi1")
    IpmiDcmi(here(machine)).open()
    device = machine / "dev" / "ipmi1"
    assert tool.asked() == [
        {
            "ipmitool": "-I open -d 1 dcmi power reading",
            "ipmi-dcmi": f"--driver-type=OPENIPMI --driver-device={device} --get-system-power-statistics",
        }[tool.tool]
    ]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("deactivated", "not active"),
        ("zero", "0 W"),
        ("not_now", "no power reading"),
        ("busy", "no power reading"),
    ],
)
def test_what_the_controller_does_not_know(machine, tool, output, reason):
    """Inactive, 0 W, not now and busy give ReadFailed with the reason, whatever number is printed."""
    source = IpmiDcmi(here(machine))
    source.open()
    tool.prints(output)
    with pytest.raises(ReadFailed, match=reason):
        source.read()
    tool.prints("activated")
    assert source.read()


def test_a_controller_without_dcmi(machine, tool):
    """Completion code c1 makes the source unavailable, with redfish as remedy; later it is a failed read."""
    source = IpmiDcmi(here(machine))
    source.open()
    tool.prints("invalid_command")
    with pytest.raises(ReadFailed, match="DCMI"):
        source.read()
    with pytest.raises(SourceUnavailable) as caught:
        IpmiDcmi(here(machine)).open()
    assert caught.value.word == "no_device"
    assert "redfish" in caught.value.remedy


LIES = [
    "",
    "\n\n",
    "Instantaneous power reading: 214 Watts\n",
    "Power reading state is: activated\n",
    "Instantaneous power reading: -5 Watts\nPower reading state is: activated\n",
    "Instantaneous power reading: 1e3 Watts\nPower reading state is: activated\n",
    "Instantaneous power reading: 214 kilowatts\nPower reading state is: activated\n",
    "Instantaneous power reading: 214 Watts\nInstantaneous power reading: 9 Watts\nPower reading state is: activated\n",
    "Instantaneous power reading: 65535 Watts\nPower reading state is: activated\n",
    "Instantaneous power reading: 999999999 Watts\nPower reading state is: activated\n",
    "Instantaneous power reading: 214 Watts\nPower reading state is: unknown\n",
    "Current Power : 214 Watts\n",
    "Current Power : N/A\nPower Measurement : Active\n",
    "Current Power : 65535 Watts\nPower Measurement : Active\n",
    "Momentane Leistung: 214 Watt\n",
    "\x00\x01\x02\x7f",
]


@pytest.mark.parametrize("text", LIES)
@pytest.mark.parametrize("does", ["say", "fail"])
def test_a_lie_is_a_gap(machine, tool, text, does):
    """Anything but one measured value and exit status 0 raises ReadFailed."""
    source = IpmiDcmi(here(machine))
    source.open()
    tool.says(text, does)
    with pytest.raises(ReadFailed) as caught:
        source.read()
    assert str(caught.value).isprintable()


def test_a_value_from_a_tool_that_failed_is_no_value(machine, tool):
    """A valid text with a bad exit status raises ReadFailed."""
    source = IpmiDcmi(here(machine))
    source.open()
    script = tool.path.read_text()
    tool.path.write_text(script + "exit 3\n")
    with pytest.raises(ReadFailed, match="status 3"):
        source.read()


@pytest.mark.parametrize("does", ["hang", "child"])
def test_a_tool_that_hangs_is_killed_with_its_children(machine, tool, does):
    """The tool and its children, which would never end, are killed, and the next read works."""
    source = IpmiDcmi(meter(machine))
    source.open()
    tool.says("", does)
    with in_a_hurry(source), pytest.raises(ReadFailed, match=r"within 0.4 s"):
        source.read()
    until(lambda: not any(map(_runs, tool.pids())), "something of it still runs")
    tool.prints("activated")
    assert source.read()


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_flood_is_cut(machine, tool):
    """Output is cut at 64 KiB and raises ReadFailed."""
    source = IpmiDcmi(meter(machine))
    source.open()
    tool.says("", "flood")
    with pytest.raises(ReadFailed, match=str(LARGEST_OUTPUT_BYTES)):
        source.read()


def test_at_most_every_thirty_seconds(machine, tool, monkeypatch):
    """The tool runs once in 30 s; its last answer or failure holds in between."""
    monkeypatch.setattr(IpmiDcmi, "PAUSE_SECONDS", 30.0)
    source = IpmiDcmi(here(machine))
    source.open()
    for _ in range(3):
        assert source.read()
    assert len(tool.asked()) == 1
    source.close()
    tool.prints("busy")
    for _ in range(2):
        with pytest.raises(ReadFailed):
            source.read()
    assert len(tool.asked()) == 2


def test_one_that_cannot_be_killed_is_not_joined_by_another(tmp_path, monkeypatch):
    """A process that outlives SIGKILL prevents a second one until it has ended."""
    fake = FakeTool(tmp_path, "ipmitool")
    fake.says("", "hang")
    program = Program()
    with monkeypatch.context() as edge:
        edge.setattr("os.killpg", lambda pid, number: None)  # effect of SIGKILL on a process in state D
        with pytest.raises(ReadFailed, match="within"):
            program.run([str(fake.path)], {}, 0.1)
    with pytest.raises(ReadFailed, match="no other one is started"):
        program.run([str(fake.path)], {}, 0.1)
    until(fake.pids)  # the shell takes a moment to start
    until(lambda: psutil.Process(fake.pids()[0]).children())
    for process in psutil.Process(fake.pids()[0]).children():
        process.kill()  # the child `sleep`; the script then ends by itself
    fake.prints("activated")
    until(lambda: _ends_well(program, fake), "never started again")
    assert len(fake.pids()) == 2


def _ends_well(program: Program, fake: FakeTool) -> bool:
    try:
        return program.run([str(fake.path)], {}, PATIENT_SECONDS).status == 0
    except ReadFailed:
        return False


def test_a_program_that_cannot_be_started(tmp_path):
    """A missing path or a folder raises ReadFailed."""
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ReadFailed, match="cannot start"):
            Program().run([str(path)], {}, 1)


# ------------------------------------------------------------------------------------ not on this one


def test_without_a_device_nothing_is_started(tool, machine):
    """Without /dev/ipmi* the source is unavailable and starts no tool."""
    (machine / "dev" / "ipmi0").unlink()
    for virtualisation, word in (
        ("none", "no_device"),
        ("kvm", "virtual_machine"),
        ("container", "no_device"),
    ):
        with pytest.raises(SourceUnavailable) as caught:
            IpmiDcmi(here(machine, virtualisation)).open()
        assert caught.value.word == word
        assert caught.value.remedy
    assert tool.asked() == []


def test_without_a_tool(machine):
    """The remedy names the Debian packages."""
    with pytest.raises(SourceUnavailable) as caught:
        IpmiDcmi(here(machine)).open()
    assert caught.value.word == "missing_library"
    assert "ipmitool" in caught.value.remedy
    assert "freeipmi-tools" in caught.value.remedy


def test_without_the_right(tool, machine, monkeypatch):
    """The remedy names device and udev rule. The test replaces os.access, since root may run the tests."""
    asked = []

    def access(path: str, mode: int) -> bool:
        asked.append(str(path))
        return not str(path).startswith(str(machine / "dev"))

    monkeypatch.setattr("os.access", access)
    with pytest.raises(SourceUnavailable) as caught:
        IpmiDcmi(here(machine)).open()
    assert caught.value.word == "no_permission"
    assert "udev" in caught.value.remedy
    assert "/dev/ipmi0" in caught.value.remedy
    assert asked
    assert tool.asked() == []


# ------------------------------------------------------------------------------------- another machine's


def test_the_password_is_never_an_argument(machine, tmp_path):
    """The password is in the environment, which other users cannot read."""
    tool = FakeTool(machine / "bin", "ipmitool")
    credentials = tmp_path / "credentials"
    credentials.write_text("reader:s3cret:colon\n")
    credentials.chmod(0o600)
    context = meter(machine, address="192.0.2.7", cipher_suite=17)
    assert context.meter is not None
    spec = context.meter._replace(credentials_file=str(credentials))
    source = IpmiDcmi(context._replace(meter=spec))
    (point,) = source.open()
    assert point == Point(PointKind.BMC, "bmc-3", Boundary.WALL, "meter:bmc-3")
    assert tool.asked() == [
        "-I lanplus -H 192.0.2.7 -p 623 -L USER -U reader -E -C 17 dcmi power reading",
    ]
    assert tool.environment()["IPMI_PASSWORD"] == "s3cret:colon"


@pytest.mark.parametrize(
    ("address", "privilege"),
    [("-Lroot", "USER"), ("a b", "USER"), ("192.0.2.7", "ROOT"), ("192.0.2.7", "-L")],
)
def test_configuration_that_cannot_be(machine, address, privilege):
    """An address that looks like an option and an unknown privilege are refused before a tool starts."""
    tool = FakeTool(machine / "bin", "ipmitool")
    with pytest.raises(SourceUnavailable) as caught:
        IpmiDcmi(meter(machine, address=address, privilege=privilege)).open()
    assert caught.value.word == "no_device"
    assert tool.asked() == []


def test_freeipmi_is_not_used_over_the_network(machine):
    """FreeIPMI takes passwords only as an argument or from a terminal, so ipmitool is required."""
    FakeTool(machine / "bin", "ipmi-dcmi")
    with pytest.raises(SourceUnavailable) as caught:
        IpmiDcmi(meter(machine, address="192.0.2.7")).open()
    assert caught.value.word == "missing_library"


def test_the_meters_ceiling_holds(machine):
    """214 W above a ceiling of 100 W raise ReadFailed."""
    FakeTool(machine / "bin", "ipmitool")
    context = meter(machine)
    assert context.meter is not None
    low = context._replace(meter=context.meter._replace(ceiling_watts=100.0))
    with pytest.raises(ReadFailed, match="ceiling of 100 W"):
        IpmiDcmi(low).open()


def test_reading_before_opening(machine):
    """A source that is not open raises ReadFailed."""
    with pytest.raises(ReadFailed):
        IpmiDcmi(here(machine)).read()


def test_recorded_outputs_are_all_used():
    """Each recorded output of one tool has a counterpart of the other."""
    folder = Path(__file__).parents[3] / "fixtures" / "ipmi"
    names = {tool: {p.stem.removeprefix(f"{tool}_") for p in folder.glob(f"{tool}_*.txt")} for tool in TOOLS}
    assert names["ipmitool"] == names["ipmi-dcmi"] != set()
