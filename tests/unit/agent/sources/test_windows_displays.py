# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the external displays of Windows over a fake table: which count, when, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fakes.edids import make_edid
from tests.support.fakes.windows import CONTEXT, FakeWindows
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import DisplaysReading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.resident.open_sources import open_sources, source_context
from veilleuse.agent.settings import AgentSettings, Measure, Paths
from veilleuse.agent.sources.windows_displays import (
    CONSOLE_DISPLAY_STATE,
    ENUM_KEY,
    MONITOR_INTERFACE,
    WindowsDisplays,
)

TREE = Path(__file__).parents[3] / "fixtures" / "sys" / "tower"
OFF, ON, DIMMED = 0, 1, 2
PANEL = make_edid((31, 17), (309, 174))
OFFICE_24 = make_edid((53, 30), (531, 299))
LARGE = make_edid((60, 34), (597, 336))
DESKTOP = CONTEXT._replace(may_have_panel=False)


@pytest.fixture
def windows() -> FakeWindows:
    """Return a Windows whose displays are on, without any."""
    made = FakeWindows()
    made.interface_paths[MONITOR_INTERFACE] = []
    made.settings[CONSOLE_DISPLAY_STATE] = ON
    return made


def source(windows: FakeWindows, context: SourceContext = CONTEXT) -> WindowsDisplays:
    """Return an opened source."""
    made = WindowsDisplays(context, windows)
    assert made.open() == ()
    return made


def on(made: WindowsDisplays) -> tuple[int, ...]:
    """Return the displays on in one read, by size."""
    (reading,) = made.read()
    assert isinstance(reading, DisplaysReading)
    return reading.on_by_size


def test_a_laptop_at_its_desk(windows):
    """The panel is the machine's; two external displays count by size, and one less after it is unplugged."""
    windows.plug_display("BOE0868", PANEL, built_in=True)
    windows.plug_display("DEL4198", OFFICE_24)
    large = windows.plug_display("GSM5AB7", LARGE)
    made = source(windows)
    assert on(made) == (0, 1, 1, 0)
    windows.interface_paths[MONITOR_INTERFACE].remove(large)
    assert on(made) == (0, 1, 0, 0)


@pytest.mark.parametrize(("state", "expected"), [(ON, 1), (DIMMED, 1), (OFF, 0)])
def test_displays_follow_the_console(windows, state, expected):
    """Off is a measured 0, also for a display that cannot be told from a panel; dimmed is on."""
    windows.plug_display("DEL4198", OFFICE_24)
    made = source(windows, DESKTOP)
    windows.set_power_setting(CONSOLE_DISPLAY_STATE, state)
    assert on(made) == (0, expected, 0, 0)
    windows.set_power_setting(CONSOLE_DISPLAY_STATE, OFF)
    assert on(made) == (0, 0, 0, 0)


def test_without_a_word_on_the_state_nothing_is_known(windows):
    """Until Windows has told the state, a read fails: neither on nor off is assumed."""
    del windows.settings[CONSOLE_DISPLAY_STATE]
    made = source(windows, DESKTOP)
    with pytest.raises(ReadFailed, match="not told yet"):
        made.read()
    windows.set_power_setting(CONSOLE_DISPLAY_STATE, ON)
    assert on(made) == (0, 0, 0, 0)


@pytest.mark.parametrize("sign", ["Capabilities", "ContainerID"])
def test_either_sign_makes_a_panel(windows, sign):
    """A panel is not removable, or belongs to the computer's container: one of the two is enough."""
    windows.plug_display("BOE0868", PANEL, built_in=True)
    key = rf"{ENUM_KEY}\DISPLAY\BOE0868\1"
    windows.keys[key, sign] = {"Capabilities": 0xE4, "ContainerID": "{3b54c3f5-0000-59f8-ad0a-666d2448ff98}"}[
        sign
    ]
    assert on(source(windows)) == (0, 0, 0, 0)


def test_a_machine_that_does_not_mark_its_panel_counts_nothing(windows):
    """A laptop whose panel looks like an external display, or whose lid was never open, is not known.
    Once its panel was seen as such, a closed lid does not matter.
    """
    windows.plug_display("DEL4198", OFFICE_24)
    made = source(windows)
    with pytest.raises(ReadFailed, match="open the lid"):
        made.read()
    panel = windows.plug_display("BOE0868", PANEL, built_in=True)
    assert on(made) == (0, 1, 0, 0)
    windows.interface_paths[MONITOR_INTERFACE].remove(panel)
    assert on(made) == (0, 1, 0, 0)
    assert on(source(windows, DESKTOP)) == (0, 1, 0, 0)


def test_a_laptop_alone_has_a_measured_zero(windows):
    """Without an external display there is nothing to tell apart, lid open or closed."""
    made = source(windows)
    assert on(made) == (0, 0, 0, 0)
    windows.plug_display("BOE0868", PANEL, built_in=True)
    assert on(made) == (0, 0, 0, 0)


def test_the_monitor_that_windows_assumes_is_none(windows):
    """A machine without a display has a Default_Monitor without EDID; one with EDID is a display."""
    windows.plug_display("Default_Monitor", b"")
    assert on(source(windows, DESKTOP)) == (0, 0, 0, 0)
    windows.plug_display("Default_Monitor", OFFICE_24, instance="2")
    assert on(source(windows, DESKTOP)) == (0, 1, 0, 0)


@pytest.mark.parametrize("edid", [b"", OFFICE_24[:127], bytes(128)])
def test_a_display_without_a_readable_edid_has_no_size(windows, edid):
    """Its time counts; its size is not known."""
    windows.plug_display("ABC1234", edid)
    assert on(source(windows, DESKTOP)) == (0, 0, 0, 1)


@pytest.mark.parametrize("missing", ["Capabilities", "ContainerID"])
def test_a_display_that_windows_does_not_describe_is_a_gap(windows, missing):
    """Without one of the signs it is neither counted nor left out; it is read again at the next tick."""
    windows.plug_display("DEL4198", OFFICE_24)
    key = rf"{ENUM_KEY}\DISPLAY\DEL4198\1"
    kept = windows.keys.pop((key, missing))
    made = source(windows, DESKTOP)
    with pytest.raises(ReadFailed, match="DEL4198"):
        made.read()
    windows.keys[key, missing] = kept
    assert on(made) == (0, 1, 0, 0)


@pytest.mark.parametrize("path", ["", "nonsense", "\\\\?\\DISPLAY#DEL4198", "\\\\?\\ROOT#X#0#{}#more"])
def test_a_path_of_another_form_is_a_gap(windows, path):
    """No path raises anything but ReadFailed."""
    windows.interface_paths[MONITOR_INTERFACE] = [path]
    with pytest.raises(ReadFailed):
        source(windows, DESKTOP).read()


def test_where_there_is_no_such_source():
    """A virtual machine has windows of its host; a system without the list, as Wine, has none."""
    with pytest.raises(SourceUnavailable) as caught:
        WindowsDisplays(CONTEXT._replace(virtualisation="hyperv"), FakeWindows()).open()
    assert caught.value.word == "virtual_machine"
    with pytest.raises(SourceUnavailable) as caught:
        WindowsDisplays(CONTEXT, FakeWindows()).open()
    assert caught.value.word == "no_device"


def test_a_list_that_fails_later_is_a_gap(windows):
    """A failed list is no list of nothing; a source that was not opened knows nothing."""
    made = source(windows, DESKTOP)
    del windows.interface_paths[MONITOR_INTERFACE]
    with pytest.raises(ReadFailed, match="does not list"):
        made.read()
    made.close()
    with pytest.raises(ReadFailed):
        WindowsDisplays(DESKTOP, windows).read()


@pytest.mark.parametrize(
    ("form", "may_have"),
    [
        ("laptop", True),
        ("all_in_one", True),
        ("unknown", True),
        ("sff", False),
        ("tower", False),
        ("server", False),
    ],
)
def test_the_form_of_the_machine_says_whether_it_may_have_a_panel(form, may_have):
    """The source hears from the machine's form, also from the one that its settings give."""
    settings = AgentSettings(
        measure=Measure(device_class=form), paths=Paths(sysfs=TREE / "sys", procfs=TREE / "proc")
    )
    machine, sources = open_sources(settings)
    sources.close()
    assert source_context(settings, machine).may_have_panel is may_have
    assert source_context(settings).may_have_panel
