# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""List the devices on which the sources of `POLLED_SOURCES` are tested: one factory for each source.

A factory is a context manager: `def redfish(folder: Path) -> AbstractContextManager[Device]`. It may start a
real peer or a fake on 127.0.0.1, or write a fake program into `folder`, and it stops what it started.
test_polled_sources.py runs the same tests on all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

from veilleuse.agent.ports import SourceContext


class Device(NamedTuple):
    """A device that a polled source reads, and functions that change its behaviour."""

    context: SourceContext
    """Context of the source; `context.meter` is set for a configured meter, and its timeout must be
    metering.PATIENT_SECONDS."""
    refuse: Callable[[], None]
    """Make the device answer nobody from now on (absent, closed, or an error for every request)."""
    answer: Callable[[], None]
    """Make the device answer as at first; the source must recover by itself, or after close and open."""
    expected: dict[str, str]
    """What its points measure: kind and domain → energy or power, boundary (as in test_sources.py)."""
    nonsense: tuple[Callable[[], None], ...]
    """Each makes the device give a wrong answer: empty, text, negative, null, far too large, or cut."""
    absent: SourceContext | None = None
    """A context without a device, for a self-detecting source; None for a configured meter."""
    hang: Callable[[], None] | None = None
    """Make the device receive requests and never answer; None if that is impossible."""


DeviceFactory = Callable[[Path], AbstractContextManager[Device]]

DEVICES: Final[dict[str, str]] = {
    "ipmi_dcmi": "tests.conformance.device_bmc:ipmi_dcmi",
    "redfish": "tests.conformance.device_bmc:redfish",
    "shelly_plug": "tests.conformance.device_plugs:shelly_plug",
    "tasmota_plug": "tests.conformance.device_plugs:tasmota_plug",
    "nvidia_nvml": "tests.conformance.device_nvml:nvidia_nvml",
    "nut_ups": "tests.conformance.device_meters:nut_ups",
    "snmp_meter": "tests.conformance.device_meters:snmp_meter",
}
"""Source → module:factory, one line each; the module is imported only when its source is tested."""


def device_of(source: str) -> DeviceFactory:
    """Return the factory of a source's device."""
    module, _, attribute = DEVICES[source].partition(":")
    factory: DeviceFactory = getattr(importlib.import_module(module), attribute)
    return factory
