# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Cleans the Facts and Health of a Hello: invalid fields are dropped one by one.

Nothing is refused: a Hello refused for a vendor's odd name would silence the machine.
"""

from __future__ import annotations

from typing import Any, Final

from veilleuse.collector.validate.cells import SOURCE_PATTERN
from veilleuse.collector.wire_codec import DEVICE_CLASSES, GAP_REASONS, number
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass

_TEXTS: Final = ("vendor", "model", "cpu_model", "virtualisation")
_RANGES: Final = {
    "cpu_count": (1, 4_096),
    "memory_bytes": (1, 2**50),
    "memory_modules": (1, 256),
    "hard_disks": (0, 1_024),
    "solid_state_disks": (0, 1_024),
    "display_off_ac_seconds": (0, 2**32),
    "sleep_ac_seconds": (0, 2**32),
}
_MAXIMUM_SOURCES: Final = 64
_MAXIMUM_COUNT: Final = 2**48


def clean_facts(facts: Any) -> bytes:
    """Encode Facts that contain only values allowed by telemetry.proto."""
    clean: Any = pb.Facts()
    known = facts.device_class in DEVICE_CLASSES
    clean.device_class = facts.device_class if known else number(DeviceClass.UNKNOWN)
    for name in _TEXTS:
        if facts.HasField(name) and FACT_PATTERN.fullmatch(getattr(facts, name)):
            setattr(clean, name, getattr(facts, name))
    for name, (lowest, highest) in _RANGES.items():
        if facts.HasField(name) and lowest <= getattr(facts, name) <= highest:
            setattr(clean, name, getattr(facts, name))
    return bytes(clean.SerializeToString(deterministic=True))


def clean_health(health: Any) -> bytes:
    """Encode Health that contains only values allowed by telemetry.proto."""
    clean = pb.Health(
        spool_records=min(health.spool_records, _MAXIMUM_COUNT),
        spool_bytes=min(health.spool_bytes, _MAXIMUM_COUNT),
    )
    if FACT_PATTERN.fullmatch(health.agent_version):
        clean.agent_version = health.agent_version
    for drop in health.drops[: len(GAP_REASONS)]:
        if drop.reason in GAP_REASONS:
            clean.drops.add(reason=drop.reason, records=min(drop.records, _MAXIMUM_COUNT))
    for source in health.sources[:_MAXIMUM_SOURCES]:
        if not source.name or not SOURCE_PATTERN.fullmatch(source.name):
            continue
        kept = clean.sources.add(
            name=source.name,
            successes=min(source.successes, _MAXIMUM_COUNT),
            failures=min(source.failures, _MAXIMUM_COUNT),
        )
        if source.HasField("unavailable") and SOURCE_PATTERN.fullmatch(source.unavailable):
            kept.unavailable = source.unavailable
    for name in ("resident_cpu_milliseconds", "resident_rss_bytes", "quarantine_records"):
        if health.HasField(name):
            setattr(clean, name, min(getattr(health, name), _MAXIMUM_COUNT))
    return clean.SerializeToString(deterministic=True)
