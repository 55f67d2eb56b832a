# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test which external displays are on, with trees of /sys/class/drm for each driver, and the sizes of
displays from their EDID: plausible or unknown, never an error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.edids import NAME_TEXT, SERIAL_TEXT, Drm, make_edid
from tests.support.peers import peer
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import DisplaysReading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.edid import diagonal_inches, identity, is_edid, size_class
from veilleuse.agent.sources.linux_displays import LinuxDisplays
from veilleuse.wire.limits import DISPLAY_SIZES

TREES = Path(__file__).parents[3] / "fixtures" / "sys"
EDIDS = Path(__file__).parents[3] / "fixtures" / "edid"
OFFICE_24 = (EDIDS / "office_24.bin").read_bytes()
SMALL, OFFICE, LARGE = (
    make_edid((48, 27), (476, 268)),
    make_edid((53, 30), None),
    make_edid((60, 34), (597, 336)),
)


@pytest.fixture
def drm(tmp_path: Path) -> Drm:
    """Return an empty /sys/class/drm."""
    return Drm(tmp_path)


def source(drm: Drm, virtualisation: str = "none") -> LinuxDisplays:
    """Return an opened source on the tree."""
    made = LinuxDisplays(SourceContext(str(drm.root), "/nowhere", virtualisation))
    assert made.open() == ()
    return made


def on(made: LinuxDisplays) -> tuple[int, ...]:
    """Return the displays on in one read, by size."""
    (reading,) = made.read()
    assert isinstance(reading, DisplaysReading)
    return reading.on_by_size


@pytest.mark.parametrize(
    ("tree", "counts"),
    [
        ("laptop", (0, 1, 0, 0)),  # one behind a dock; the internal panel does not count
        ("tower", (0, 0, 1, 0)),  # two, one of them in standby
        ("server_amd_two_dies", (0, 0, 0, 0)),  # a connector without a display: a measured 0
    ],
)
def test_trees(tree, counts):
    """The captured machines have these displays on."""
    made = LinuxDisplays(SourceContext(f"{TREES}/{tree}/sys", "", "none"))
    made.open()
    assert on(made) == counts


@pytest.mark.parametrize("word", ["none", "kvm"])
def test_virtual_outputs_are_no_displays(drm, word):
    """Virtual, Writeback and firmware outputs make the source unavailable, not 0."""
    for name in ("card0-Virtual-1", "card0-Writeback-1", "card0-Unknown-1"):
        drm.plug(name)
    with pytest.raises(SourceUnavailable) as raised:
        source(drm, word)
    assert raised.value.word == ("no_device" if word == "none" else "virtual_machine")


def test_on_is_connected_and_enabled_and_powered(drm):
    """A display is on if connected, enabled and powered; `unknown` does not count as connected."""
    drm.plug("card0-HDMI-A-1", SMALL)
    made = source(drm)
    assert on(made) == (1, 0, 0, 0)
    for state in (
        {"status": "disconnected"},
        {"status": "unknown"},
        {"enabled": "disabled"},
        {"power": "Off"},
    ):
        drm.plug("card0-HDMI-A-1", SMALL, **state)
        assert on(made) == (0, 0, 0, 0), state
    drm.plug("card0-HDMI-A-1")
    assert on(made) == (0, 0, 0, 1), "no EDID: on all the same, size not known"


def test_a_dock_comes_and_goes(drm):
    """Connectors of a dock appear with it, its own one is disconnected, and each display counts once."""
    drm.plug("card0-eDP-1", SMALL)
    drm.plug("card0-DP-1", status="disconnected", enabled="disabled", power="Off")
    made = source(drm)
    assert on(made) == (0, 0, 0, 0)
    folders = [drm.plug("card0-DP-5", OFFICE), drm.plug("card0-DP-6", LARGE)]
    assert on(made) == (0, 1, 1, 0)
    for folder in folders:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    assert on(made) == (0, 0, 0, 0)


def test_one_display_on_two_cards_is_one(drm):
    """One numbered display on two cards counts once; displays without number, or on one card, count each."""
    numbered, plain = make_edid((53, 30), None, serial=77), make_edid((53, 30), None, serial=0)
    drm.plug("card0-HDMI-A-1", numbered)
    drm.plug("card1-DP-1", numbered)
    made = source(drm)
    assert on(made) == (0, 1, 0, 0)
    drm.plug("card1-DP-1", plain)
    drm.plug("card0-HDMI-A-1", plain)
    for name in ("card0-HDMI-A-1", "card1-DP-1"):  # a display is unplugged before another one takes its place
        drm.plug(name, plain, status="disconnected")
    on(made)
    for name in ("card0-HDMI-A-1", "card1-DP-1"):
        drm.plug(name, plain)
    assert on(made) == (0, 2, 0, 0)
    drm.plug("card1-DP-1", status="disconnected")
    drm.plug("card0-DP-9", numbered)
    drm.plug("card0-DP-10", numbered)
    assert on(made) == (0, 3, 0, 0)


def test_nvidia_without_mode_setting_is_not_available(drm):
    """NVIDIA's driver without mode setting hides its outputs: unavailable, unless the card has no outputs."""
    drm.plug("card0-HDMI-A-1", SMALL)
    device = drm.root / "bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "driver").symlink_to("../../drivers/nvidia")
    (device / "class").write_text("0x030200\n")
    assert on(source(drm)) == (1, 0, 0, 0)
    (device / "class").write_text("0x030000\n")
    with pytest.raises(SourceUnavailable, match="shows no connectors") as raised:
        source(drm)
    assert "modeset=1" in raised.value.remedy
    (device / "drm/card1/card1-DP-1").mkdir(parents=True)
    assert on(source(drm)) == (1, 0, 0, 0)


def test_nvidia_that_may_drive_past_the_kernel_gives_no_reading(drm):
    """A connected, disabled output may be on under NVIDIA's X driver: no reading. An enabled one counts."""
    drm.card("card0", "nvidia")
    drm.plug("card0-DP-1", LARGE, enabled="disabled", power="Off")
    made = source(drm)
    with pytest.raises(ReadFailed):
        made.read()
    drm.plug("card0-DP-1", LARGE, power="Off")
    assert on(made) == (0, 0, 0, 0)
    drm.plug("card0-DP-1", LARGE)
    assert on(made) == (0, 0, 1, 0)


def test_a_remote_console_is_no_display(drm):
    """A management controller's VGA output without EDID is no display; with EDID it is one."""
    drm.card("card0", "ast")
    drm.plug("card0-VGA-1")
    made = source(drm)
    assert on(made) == (0, 0, 0, 0)
    drm.plug("card0-VGA-1", SMALL, power="Off")
    drm.plug("card0-VGA-1", SMALL)
    assert on(made) == (1, 0, 0, 0)


def test_another_card_under_the_name_of_one_that_went(drm):
    """A new card under an old card's name is judged by its own driver."""
    drm.plug("card0-eDP-1", SMALL)
    drm.card("card1", "amdgpu")
    drm.plug("card1-VGA-1")
    made = source(drm)
    assert on(made) == (0, 0, 0, 1)
    for entry in (drm.root / "class/drm").glob("card1*"):
        entry.rename(drm.root / entry.name)
    assert on(made) == (0, 0, 0, 0)
    drm.card("card1", "ast")
    drm.plug("card1-VGA-1")
    assert on(made) == (0, 0, 0, 0)


def test_what_cannot_be_read_is_no_zero(drm):
    """An unreadable or invalid state and an unloaded driver give ReadFailed, not 0."""
    folder = drm.plug("card0-DP-1", OFFICE)
    made = source(drm)
    for file, text in (("dpms", "?"), ("enabled", ""), ("status", "nonsense")):
        (folder / file).write_text(text)
        with pytest.raises(ReadFailed):
            made.read()
        drm.plug("card0-DP-1", OFFICE)
    (folder / "status").unlink()
    with pytest.raises(ReadFailed):
        made.read()
    shutil.rmtree(drm.root / "class")
    with pytest.raises(ReadFailed, match="any more"):
        made.read()


def test_few_files_a_tick(drm, monkeypatch):
    """Six connectors with two displays need ten reads a tick, and the EDID only after a change."""
    drm.plug("card0-eDP-1", SMALL)
    for name in ("card0-HDMI-A-1", "card0-DP-1"):
        drm.plug(name, OFFICE)
    for number in range(2, 6):
        drm.plug(f"card0-DP-{number}", status="disconnected", enabled="disabled", power="Off")
    made = source(drm)
    on(made)
    opened: list[str] = []
    real_open, real_os_open = open, os.open

    def noted(really: Callable[..., Any]) -> Callable[..., Any]:
        def opens(path: Any, *more: Any, **named: Any) -> Any:
            opened.append(str(path))
            return really(path, *more, **named)

        return opens

    monkeypatch.setattr("builtins.open", noted(real_open))
    monkeypatch.setattr("os.open", noted(real_os_open))
    on(made)
    assert sum(path.startswith(str(drm.root)) for path in opened) == 10
    assert not any(path.endswith("/edid") for path in opened)
    drm.plug("card0-DP-1", LARGE, power="Standby")
    opened.clear()
    on(made)
    assert [path for path in opened if path.endswith("/edid") and path.startswith(str(drm.root))][-1:] == [
        f"{drm.root}/class/drm/card0-DP-1/edid"
    ]


def test_an_unseen_exchange_is_seen_within_the_hour(drm):
    """A display replaced between two ticks is noticed by its EDID, which is read again after 360 reads."""
    drm.plug("card0-DP-1", SMALL)
    made = source(drm)
    on(made)
    drm.plug("card0-DP-1", LARGE)
    assert on(made) == (1, 0, 0, 0)
    for _ in range(359):
        on(made)
    assert on(made) == (0, 0, 1, 0)


@pytest.mark.promise("P2")
def test_nothing_but_the_size_goes_on(drm):
    """P2: no reading or error holds the serial number or name of a display."""
    drm.card("card0", "nvidia")
    drm.plug("card0-DP-1", make_edid((53, 30), (527, 296), serial=0x5A5A1234))
    made = source(drm)
    said = repr(made.read())
    drm.plug("card0-DP-1", make_edid((53, 30), (527, 296)), enabled="disabled")
    with pytest.raises(ReadFailed) as raised:
        made.read()
    said += str(raised.value)
    for canary in (SERIAL_TEXT[:13], NAME_TEXT, str(0x5A5A1234), "5a5a1234", "VEI"):
        assert canary not in said


# -------------------------------------------------------------------------------------------- EDID


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("office_21_5", "under_22"),
        ("office_24", "22_to_27"),
        ("office_27", "over_27"),  # 26.97 inches of glass are sold as 27
        ("no_timing", "22_to_27"),  # whole centimetres only
        ("copied_timing", "22_to_27"),  # 340 × 190 mm of another panel, 52 × 32 cm of this one
        ("television_aspect_timing", "over_27"),  # 122 × 69 cm; 160 × 90 "mm" is 16:9
        ("television_aspect", "unknown"),  # 160 × 90 "cm" is 16:9
        ("projector", "unknown"),  # 0 × 0
        ("aspect_code", "unknown"),  # EDID 1.4: one of the two is 0, the other a ratio
    ],
)
def test_size_classes(name, size):
    """Sizes follow the EDID standard; an aspect ratio, a copied timing and 0 are not sizes."""
    assert DISPLAY_SIZES[size_class((EDIDS / f"{name}.bin").read_bytes())] == size


def test_an_independent_decoder_reads_the_same():
    """edid-decode (Debian) reads the same sizes and finds no checksum error."""
    for file in sorted(EDIDS.glob("office_*.bin")):
        said = subprocess.run([peer("edid-decode"), file], capture_output=True, text=True, check=False).stdout
        found = re.search(r"\((\d+) mm x (\d+) mm\)", said)
        assert found, said
        inches = (int(found[1]) ** 2 + int(found[2]) ** 2) ** 0.5 / 25.4
        assert diagonal_inches(file.read_bytes()) == pytest.approx(inches)
        assert "Invalid checksum" not in said


@pytest.mark.parametrize(
    "broken", [b"", OFFICE_24[:127], bytes(128), OFFICE_24[:100] + b"\x07" + OFFICE_24[101:]]
)
def test_what_is_no_edid_has_no_size(broken):
    """Empty, cut, blank and corrupt bytes give no size and no identity."""
    assert not is_edid(broken)
    assert diagonal_inches(broken) is None
    assert identity(broken) is None


def test_only_a_numbered_display_is_told_from_its_like():
    """A display with a serial number has the same identity on two cables; one without has none."""
    assert identity(OFFICE_24) == identity(OFFICE_24 + bytes(128)) is not None
    assert identity(make_edid((53, 30), None, serial=1)) != identity(make_edid((53, 30), None, serial=2))
    for serial in (0, 0x01010101, 0xFFFFFFFF):
        assert identity(make_edid((53, 30), None, serial=serial)) is None


@given(st.binary(max_size=400) | st.binary(min_size=119, max_size=247).map(lambda b: _dressed(b)))
def test_any_bytes_are_borne(content):
    """Any bytes, also with a valid header and checksum, give a class and a plausible diagonal or None."""
    inches = diagonal_inches(content)
    assert inches is None or 5 <= inches <= 120
    assert 0 <= size_class(content) < len(DISPLAY_SIZES)
    assert (size_class(content) == 3) == (inches is None)


def _dressed(noise: bytes) -> bytes:
    base = OFFICE_24[:8] + noise[:119]
    return base + bytes([-sum(base) % 256]) + noise[119:]
