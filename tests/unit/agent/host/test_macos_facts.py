# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the facts of a Mac over a fake kernel: form, numbers, and absence of what the kernel does not give."""

from __future__ import annotations

import pytest

from tests.support.fakes.macos import FakeMacos
from veilleuse.agent.host.macos import machine_of
from veilleuse.wire.vocabulary import DeviceClass


@pytest.mark.parametrize(
    ("model", "battery_there", "virtual", "expected"),
    [
        ("MacBookPro18,3", True, "0", DeviceClass.LAPTOP),
        ("Mac14,2", True, "0", DeviceClass.LAPTOP),
        ("Mac16,10", False, "0", DeviceClass.MINI_PC),
        ("Mac15,4", False, "0", DeviceClass.ALL_IN_ONE),
        ("iMac21,1", False, "0", DeviceClass.ALL_IN_ONE),
        ("Mac14,8", False, "0", DeviceClass.TOWER),
        ("Mac99,1", False, "0", DeviceClass.UNKNOWN),
        ("Mac14,2", True, "1", DeviceClass.VIRTUAL_MACHINE),
        ("VirtualMac2,1", False, "1", DeviceClass.VIRTUAL_MACHINE),
    ],
)
def test_the_form_of_a_mac(model, battery_there, virtual, expected):
    """The form comes from the identifier; for identifiers since 2022 from the battery or a table."""
    calls = FakeMacos({"hw.model": model, "kern.hv_vmm_present": int(virtual)})
    told = machine_of(calls, has_battery=battery_there)
    assert told.device_class is expected


def test_facts_of_a_mac():
    """Facts hold the kernel's values and None for missing ones."""
    told = machine_of(
        FakeMacos(
            {
                "hw.model": "Mac14,2",
                "hw.memsize": 17_179_869_184,
                "hw.logicalcpu": 8,
                "machdep.cpu.brand_string": "Apple M2",
                "kern.uuid": "CANARY",
            }
        ),
        has_battery=True,
    )
    assert (told.vendor, told.model, told.cpu_model) == ("Apple", "Mac14_2", "Apple M2")
    assert (told.memory_bytes, told.cpu_count) == (17_179_869_184, 8)
    assert (told.has_battery, told.hard_disks) == (True, None)
    assert "CANARY" not in repr(told)
    nothing = machine_of(FakeMacos(), has_battery=False)
    assert (nothing.vendor, nothing.model, nothing.memory_bytes, nothing.cpu_count) == (
        None,
        None,
        None,
        None,
    )
    assert nothing.device_class is DeviceClass.UNKNOWN


def test_nonsense_of_the_kernel_is_no_fact():
    """Numbers of another width, negative numbers and invalid text are absent."""
    calls = FakeMacos({"hw.logicalcpu": -4})
    calls.values |= {
        "hw.memsize": b"\1\2\3",
        "hw.model": b"\xff\xfe\0Mac",
        "hw.physicalcpu": b"8",
    }
    told = machine_of(calls, has_battery=False)
    assert (told.cpu_count, told.memory_bytes, told.model) == (None, None, None)
