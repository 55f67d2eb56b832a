# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Facts and Health of a Hello: what fits is kept, what does not is dropped field by field.

Never a refusal: a Hello refused for a vendor's odd name would silence the machine.
"""

from __future__ import annotations

from typing import Any, Final

from veilleuse.collector.validate.cells import SOURCE_PATTERN, SUBJECT_PATTERN
from veilleuse.collector.wire_codec import BOUNDARIES, DEVICE_CLASSES, GAP_REASONS, POINT_KINDS, number
from veilleuse.wire.limits import FACT_PATTERN, FIRMWARE_YEARS, MAX_POINTS_PER_RECORD
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass

_TEXTS: Final = (
    "vendor",
    "model",
    "cpu_model",
    "os_type",
    "os_version",
    "host_arch",
    "virtualisation",
    "agent_version",
)
_RANGES: Final = {
    "cpu_count": (1, 4_096),
    "cpu_sockets": (1, 64),
    "memory_bytes": (1, 2**50),
    "memory_modules": (1, 256),
    "hard_disks": (0, 1_024),
    "solid_state_disks": (0, 1_024),
    "gpus": (0, 64),
    "firmware_year": FIRMWARE_YEARS,
    "display_off_ac_seconds": (0, 2**32),
    "sleep_ac_seconds": (0, 2**32),
}
_DISPLAY_SIZES: Final = range(1, 5)
_MAXIMUM_DISPLAYS: Final = 32
_MAXIMUM_SOURCES: Final = 64
_MAXIMUM_COUNT: Final = 2**48


def clean_facts(facts: Any) -> bytes:
    """Encoded Facts that hold nothing but what telemetry.proto allows."""
    clean: Any = pb.Facts()
    known = facts.device_class in DEVICE_CLASSES
    clean.device_class = facts.device_class if known else number(DeviceClass.UNKNOWN)
    for name in _TEXTS:
        if facts.HasField(name) and FACT_PATTERN.fullmatch(getattr(facts, name)):
            setattr(clean, name, getattr(facts, name))
    for name, (lowest, highest) in _RANGES.items():
        if facts.HasField(name) and lowest <= getattr(facts, name) <= highest:
            setattr(clean, name, getattr(facts, name))
    for point in facts.points[:MAX_POINTS_PER_RECORD]:
        if _is_point(point):
            clean.points.add(
                kind=point.kind, domain=point.domain, boundary=point.boundary, subject=point.subject
            )
    for display in facts.displays[: len(_DISPLAY_SIZES)]:
        if display.size in _DISPLAY_SIZES and 1 <= display.count <= _MAXIMUM_DISPLAYS:
            clean.displays.add(size=display.size, count=display.count)
    return bytes(clean.SerializeToString(deterministic=True))


def clean_health(health: Any) -> bytes:
    """Encoded Health that holds nothing but what telemetry.proto allows."""
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


def _is_point(point: Any) -> bool:
    return (
        point.kind in POINT_KINDS
        and point.boundary in BOUNDARIES
        and FACT_PATTERN.fullmatch(point.domain) is not None
        and SUBJECT_PATTERN.fullmatch(point.subject) is not None
    )
