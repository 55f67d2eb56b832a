# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test Windows structures: layouts against documented sizes, and arbitrary bytes, which give no values."""

from __future__ import annotations

import ctypes
import struct
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.windows import Disk, Meter, smbios, wide
from veilleuse.agent.host.smbios import dmi_texts, structures, table_of_windows
from veilleuse.agent.platforms.windows import api
from veilleuse.agent.platforms.windows import structures as layout
from veilleuse.agent.platforms.windows.calls import WindowsCallError
from veilleuse.agent.platforms.windows.structures import EnergyChannel, EnergyValue, PowerStatus

SOUP = st.binary(max_size=400)


def test_documented_sizes():
    """Sizes of a 64-bit process. Source: emi.h, pdh.h, guiddef.h, powrprof.h, poclass.h, winbase.h."""
    assert ctypes.sizeof(api.Guid) == 16
    assert ctypes.sizeof(api.RawCounter) == 40
    assert ctypes.sizeof(api.RawCounterItem) == 48
    assert ctypes.sizeof(api.Subscription) == 16
    assert layout.measurement_bytes(3) == 48
    assert len(layout.status_request(1)) == 20
    assert len(layout.information_request(1)) == 12
    assert len(layout.property_request(7)) == 12
    assert len(Meter("x", version=1).metadata()) == 72 + 4
    assert len(Meter("ab", "c").metadata()) == 68 + (6 + 6) + (6 + 4)


def test_a_guid_is_laid_out_as_windows_does():
    """The first three groups are little-endian."""
    guid = api.Guid.of("{45BD8344-7ED6-49cf-A440-C276C933B053}")
    assert bytes(guid).hex() == "4483bd45d67ecf49a440c276c933b053"


def test_a_missing_function_is_a_failed_call(monkeypatch):
    """A function that an older Windows lacks raises WindowsCallError (AttributeError was seen under Wine)."""
    monkeypatch.setattr(ctypes, "WinDLL", lambda name, use_last_error: object(), raising=False)
    calls = api.WindowsCalls()
    for ask in (
        calls.power_status,
        calls.interrupt_times,
        calls.firmware_table,
        lambda: calls.interfaces("{45BD8344-7ED6-49cf-A440-C276C933B053}"),
        lambda: calls.plan_value(
            "{45BD8344-7ED6-49cf-A440-C276C933B053}", "{45BD8344-7ED6-49cf-A440-C276C933B053}"
        ),
        lambda: calls.counter_open("x"),
        lambda: calls.open("x"),
        lambda: calls.on_power_event(lambda _: None),
    ):
        with pytest.raises(WindowsCallError):
            ask()


# --------------------------------------------------------------------------------------------- EMI


def test_channels_are_not_padded():
    """After a name of 2 mod 4 bytes the next channel follows at once: emi.h, EMI_CHANNEL_V2_NEXT_CHANNEL."""
    names = ("SYS", "CPU_CLUSTER_0", "", "é")
    found = layout.emi_channels(2, Meter(*names).metadata())
    assert found == tuple(EnergyChannel(name, 0) for name in names)


def test_the_first_version_has_one_channel():
    """EMI_METADATA_V1 describes one channel, named after the metered hardware."""
    assert layout.emi_channels(1, Meter("CPU", version=1).metadata()) == (EnergyChannel("CPU", 0),)


@pytest.mark.parametrize("meter", [Meter("CPU_PKG", version=1), Meter("RAPL_Package0_PKG", "GPU")])
def test_cut_off_anywhere_is_refused(meter):
    """Each proper prefix of a description raises ValueError."""
    whole = meter.metadata()
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"cut off|belong"):
            layout.emi_channels(meter.version, whole[:length])


def test_a_name_of_an_odd_length_is_refused():
    """An odd size raises ValueError, since a UTF-16 unit has two bytes."""
    with pytest.raises(ValueError, match="cut off"):
        layout.emi_channels(2, bytes(64) + struct.pack("<HHiH", 1, 1, 0, 3) + b"abcdef")


def test_too_many_channels_are_refused():
    """65,535 channels raise ValueError: no machine has so many."""
    with pytest.raises(ValueError, match="65535 channels"):
        layout.emi_channels(2, bytes(64) + struct.pack("<HH", 1, 0xFFFF) + bytes(1_000))


def test_measurements_in_their_order():
    """Each channel gives (energy, time); extra bytes are ignored, missing ones raise ValueError."""
    answer = struct.pack("<QQQQ", 1, 2, 2**64 - 1, 4) + b"more"
    assert layout.emi_measurements(answer, 2) == (EnergyValue(1, 2), EnergyValue(2**64 - 1, 4))
    with pytest.raises(ValueError, match="3 channels"):
        layout.emi_measurements(answer, 3)


@given(SOUP, st.integers(0, 40))
def test_soup_of_meters(soup, channels):
    """Any bytes give ValueError, or one value ≥ 0 per channel."""
    for parse in (
        layout.emi_version,
        layout.emi_metadata_size,
        lambda bytes_: layout.emi_channels(1, bytes_),
        lambda bytes_: layout.emi_channels(2, bytes_),
    ):
        try:
            parse(soup)
        except ValueError:
            continue
    try:
        values = layout.emi_measurements(soup, channels)
    except ValueError:
        return
    assert len(values) == channels
    assert all(value.energy_picowatt_hours >= 0 for value in values)


# ---------------------------------------------------------------------------------- battery, disks


@given(SOUP)
def test_soup_of_batteries_and_disks(soup):
    """Bytes that are enough for a structure give a value; fewer give ValueError."""
    for parse, least in (
        (layout.battery_tag, 4),
        (layout.battery_capabilities, layout.BATTERY_INFORMATION_BYTES),
        (layout.battery_status, 16),
        (layout.power_status, 12),
        (layout.disk, layout.DISK_DESCRIPTOR_BYTES),
        (layout.seek_penalty, layout.SEEK_PENALTY_BYTES - 3),
    ):
        with nullcontext() if len(soup) >= least else pytest.raises(ValueError, match=r"\d+ bytes "):
            assert parse(soup) is not None


def test_rate_and_its_absence():
    """BATTERY_STATUS: LONG Rate is negative during discharge; 0x80000000 means no rate."""
    assert layout.battery_status(struct.pack("<LLLl", 2, 1, 1, -12_345)) == (2, -12_345)
    assert layout.battery_status(struct.pack("<LLLL", 2, 1, 1, 0x80000000)) == (2, None)


@pytest.mark.parametrize(
    ("line", "flag", "expected"),
    [
        (0, 1, PowerStatus(False, True)),
        (1, 8, PowerStatus(True, True)),
        (1, 128, PowerStatus(True, False)),
        (255, 255, PowerStatus(None, None)),
        (7, 0, PowerStatus(None, True)),
    ],
)
def test_power_status(line, flag, expected):
    """SYSTEM_POWER_STATUS: 255 is unknown; bit 7 of the flag means no battery."""
    assert layout.power_status(struct.pack("<BBBBLL", line, flag, 50, 0, 0, 0)) == expected


def test_a_disk_is_read_as_far_as_its_bus():
    """The part of a disk's answer that is read ends before its serial number."""
    answer = Disk(spins=False, bus=17).answer(0x2D1400, layout.property_request(0))
    head = answer[: layout.DISK_DESCRIPTOR_BYTES]
    assert Disk.SERIAL in answer
    assert not any(part in head for part in (b"S3R", b"CANARY"))
    assert layout.disk(head) == (False, 17)


# ------------------------------------------------------------------------------------------ SMBIOS

MACHINE = smbios(
    (0, struct.pack("<BBHB", 1, 2, 0xE000, 3) + bytes(11), ("Dell Inc.", "1.2.3", "07/15/2021")),
    (
        1,
        struct.pack("<BBBB", 1, 2, 3, 4) + bytes(range(16)) + struct.pack("<BBB", 6, 5, 0),
        ("Dell Inc.", "OptiPlex 7090", "V1", "S3R1AL-CANARY", "SKU-CANARY"),
    ),
    (2, struct.pack("<BBBBB", 1, 2, 3, 4, 5), ("Dell Inc.", "0J37VM", "A00", "BOARD-CANARY", "ASSET-CANARY")),
    (3, struct.pack("<BBBBB", 1, 0x83, 2, 3, 4), ("Dell Inc.", "v", "CHASSIS-CANARY", "TAG-CANARY")),
    (4, bytes(20) + b"\x41" + bytes(10), ()),
    (4, bytes(20) + b"\x00" + bytes(10), ()),
)


def test_what_the_firmware_names():
    """The texts hold makers, names and chassis type without its lock bit; no serial number, tag or UUID."""
    table = table_of_windows(MACHINE)
    assert dmi_texts(table) == {
        "bios_vendor": "Dell Inc.",
        "sys_vendor": "Dell Inc.",
        "product_name": "OptiPlex 7090",
        "product_version": "V1",
        "board_vendor": "Dell Inc.",
        "board_name": "0J37VM",
        "chassis_type": "3",
    }
    assert "CANARY" not in repr(dmi_texts(table))


@pytest.mark.parametrize("number", [3, 255])
def test_a_number_of_no_text_is_no_text(number):
    """A string number without a string gives no text; the other structures are still read."""
    raw = smbios(
        (1, bytes([number, 2, 0, 0]) + bytes(19), ("Maker", "Model")),
        (3, bytes([1, 3, 0, 0, 0]), ("Maker",)),
    )
    assert dmi_texts(table_of_windows(raw)) == {"product_name": "Model", "chassis_type": "3"}


def test_a_real_table_of_a_virtual_machine():
    """A table of a virtual machine gives no placeholder as a text: tests/fixtures/windows/PROVENANCE.md."""
    from tests.support.fakes.windows import FIXTURES

    table = table_of_windows((FIXTURES / "smbios_wine.bin").read_bytes())
    assert [one.kind for one in structures(table)] == [0, 1, 3, 2, 4, 32]
    assert dmi_texts(table) == {"chassis_type": "2"}


@given(
    st.one_of(
        SOUP, st.integers(0, len(MACHINE)).map(lambda n: MACHINE[:n]), st.binary(min_size=300, max_size=2_000)
    )
)
def test_soup_of_firmware(soup):
    """Any bytes give texts or nothing, and reading ends."""
    table = table_of_windows(soup)
    assert all(isinstance(text, str) for text in dmi_texts(table).values())
    list(structures(soup))


def test_wide_text_of_the_fake():
    """The fake pads its UTF-16 text with zeros to the given size."""
    assert wide("a", 6) == b"a\0\0\0\0\0"
