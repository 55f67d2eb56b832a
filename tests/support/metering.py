# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Configure meters for tests of the sources that read them, and write what sources measure as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.model import EnergyCounter, PowerGauge, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.wire.units import MICROJOULES_PER_JOULE, MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import Boundary

Result = TypeVar("Result")

PATIENT_SECONDS: Final = PATIENCE_SECONDS
"""Timeout for a device that answers: within milliseconds, but the test machine may stall."""
HURRIED_SECONDS: Final = 0.4
"""Timeout for a device that never answers."""


def hurried(context: SourceContext, seconds: float = HURRIED_SECONDS) -> SourceContext:
    """Return the same context with a short timeout, for a device that never answers."""
    assert context.meter is not None
    return context._replace(meter=context.meter._replace(timeout_seconds=seconds))


@contextmanager
def in_a_hurry(source: Any) -> Iterator[None]:
    """Give an opened source a short timeout while the block runs: its device has fallen silent."""
    if source._context.meter is None:
        yield
        return
    _set_timeout(source, HURRIED_SECONDS)
    try:
        yield
    finally:
        _set_timeout(source, PATIENT_SECONDS)


def _set_timeout(source: Any, seconds: float) -> None:
    source._context = hurried(source._context, seconds)
    match source.name:  # where the source keeps what it read at its opening
        case "ipmi_dcmi":
            source._command = source._command._replace(seconds=seconds)
        case "redfish":
            source._service._timeout_seconds = seconds
        case "snmp_meter":
            source._client._timeout_seconds, source._client._reached = seconds, None
        case "shelly_plug" | "tasmota_plug":
            source._meter = source._context.meter


def patiently(work: Callable[[], Result]) -> Result:
    """Repeat an `open` or `read` up to 20 times while it raises ReadFailed, because the machine may stall for
    longer than the source waits; return its result, or raise the last error."""
    for _ in range(20):
        try:
            return work()
        except ReadFailed:
            continue
    return work()


def context_of(
    source: str, address: str, timeout_seconds: float = PATIENT_SECONDS, **changes: Any
) -> SourceContext:
    """Return a source's context with a meter `rack-a` of this machine; `changes` that are no field of
    MeterSpec are options."""
    fields = {name: changes.pop(name) for name in MeterSpec._fields if name in changes}
    meter = MeterSpec(
        meter="rack-a",
        source=source,
        address=address,
        subject="machine",
        boundary=Boundary.WALL,
        every_seconds=20,
        timeout_seconds=timeout_seconds,
        ceiling_watts=4_000.0,
        credentials_file="",
        options=changes,
    )._replace(**fields)
    return SourceContext("/nowhere", "/nowhere", "none", meter=meter)


def secret_file(path: Path, text: str) -> str:
    """Write a credentials file with the permissions that sources accept; return its path."""
    path.write_text(text)
    path.chmod(0o640)
    return str(path)


def measured_values(readings: Iterable[Reading]) -> dict[str, str]:
    """Return kind and domain → energy (J) or power (W), and boundary, of counters and gauges."""
    found = {}
    for reading in readings:
        if isinstance(reading, EnergyCounter):
            value = f"{reading.energy_microjoules / MICROJOULES_PER_JOULE} J"
        elif isinstance(reading, PowerGauge):
            value = f"{reading.power_milliwatts / MILLIWATTS_PER_WATT} W"
        else:
            continue
        found[f"{reading.point.kind} {reading.point.domain}"] = f"{value}, {reading.point.boundary}"
    return found
