# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The devices on which the sources of `POLLED_SOURCES` are tried: one factory per source, in a file of its
own.

A factory is a context manager: `def redfish(folder: Path) -> AbstractContextManager[Device]`. It may start a
real peer or a fake on 127.0.0.1, or write a fake program into `folder`; it stops what it started.
test_polled_sources.py asks all of them the same.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

from veilleuse.agent.ports import SourceContext


class Device(NamedTuple):
    """What a polled source reads, and what becomes of it."""

    context: SourceContext
    """What the source is made with; `context.meter` for a configured one, with metering.PATIENT_SECONDS as
    its timeout please."""
    refuse: Callable[[], None]
    """From now on the device answers nobody (gone, closed, an error for every question)."""
    answer: Callable[[], None]
    """It answers again as at first: the source must recover by itself, or after close and open."""
    nonsense: tuple[Callable[[], None], ...]
    """Each makes the device answer with something wrong: empty, text, negative, null, far too large, cut
    short."""
    absent: SourceContext | None = None
    """For a self-detecting source: a context in which there is no device. None for a configured meter."""
    hang: Callable[[], None] | None = None
    """From now on it takes the question and never answers; None where no such thing can be made."""


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
"""Source → module:factory. One line each; the module is imported only when its source is tried."""


def device_of(source: str) -> DeviceFactory:
    """The factory of a source's device."""
    module, _, attribute = DEVICES[source].partition(":")
    factory: DeviceFactory = getattr(importlib.import_module(module), attribute)
    return factory
