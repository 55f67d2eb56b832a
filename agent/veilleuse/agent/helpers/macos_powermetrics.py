# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What macOS' `powermetrics -f plist` prints, as samples. Pure; whatever the bytes are, it is a sample or nothing.

Sources: powermetrics(1); its output as others print it (docs/sources.md, macos_power): one property list a sample, a NUL before
each but the first. Apple silicon tells `combined_power` in mW (CPU, GPU, neural engine), Intel the package in joules.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from xml.parsers.expat import ExpatError

INTERVAL_MILLISECONDS: Final = 10_000
"""PROMISES.md P11: nothing below 10 s is read or served."""
PACKAGE_CEILING_WATTS: Final = 1_000.0
"""As for RAPL: no processor package draws more."""
LARGEST_SAMPLE_BYTES: Final = 1 << 20
_END: Final = b"</plist>"
_LONGEST_NANOSECONDS: Final = 3 * INTERVAL_MILLISECONDS * 1_000_000
"""A sample over a longer time holds a sleep, or a process that was stopped: how much of it was awake is not told."""


class Sample(NamedTuple):
    """Means over one interval."""

    energy_microjoules: int | None
    """Of the processor package, GPU included where it is in it; None = not told, or not believable."""
    gpu_busy_ratio: float | None
    """0 to 1."""


class Stream:
    """Cuts what comes into property lists, and reads them."""

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> list[Sample]:
        """Samples that are complete with this. Raises ValueError on something that is no property list, or has no end."""
        *whole, self._waiting = (self._waiting + data).split(_END)
        if len(self._waiting) > LARGEST_SAMPLE_BYTES:
            raise ValueError(f"more than {LARGEST_SAMPLE_BYTES} bytes and no end of a sample")
        return [sample(parsed(part.strip(b"\0 \r\n\t") + _END)) for part in whole]


def parsed(text: bytes) -> object:
    """One property list. Raises ValueError."""
    try:
        return plistlib.loads(text, fmt=plistlib.FMT_XML)
    except (ExpatError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"no property list: {error or type(error).__name__}") from error


def sample(told: object) -> Sample:
    """What one property list says."""
    told = told if isinstance(told, dict) else {}
    elapsed = _number(told, "elapsed_ns")
    processor, gpu = told.get("processor"), told.get("gpu")
    energy = None
    if isinstance(processor, dict) and elapsed is not None and 0 < elapsed <= _LONGEST_NANOSECONDS:
        energy = _package_microjoules(processor, elapsed)
    idle = _number(gpu, "idle_ratio") if isinstance(gpu, dict) else None
    return Sample(energy, None if idle is None or idle > 1 else 1 - idle)


def _package_microjoules(processor: Mapping[Any, Any], elapsed_nanoseconds: float) -> int | None:
    """The first that is told: joules (Intel), milliwatts (Apple silicon), watts (Intel), millijoules (macOS 11 on Apple silicon)."""
    seconds = elapsed_nanoseconds / 1e9
    for name, microjoules in (
        ("package_joules", 1e6),
        ("combined_power", 1e3 * seconds),
        ("package_watts", 1e6 * seconds),
        ("package_energy", 1e3),
    ):
        value = _number(processor, name)
        if value is not None:
            energy = value * microjoules
            # A running package does not draw nothing: 0 has not been read.
            return int(energy) if 0 < energy <= PACKAGE_CEILING_WATTS * 1e6 * seconds else None
    return None


def _number(told: Mapping[Any, Any], name: str) -> float | None:
    """A finite number ≥ 0."""
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**63:
        return None
    return float(value)
