# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""OpenTelemetry names in use, with their units, for the facts and the OTLP export.

Source: OpenTelemetry semantic conventions, hardware, system, process, host and os namespaces.
"""

from __future__ import annotations

from typing import Final

HW_ENERGY: Final = "hw.energy"  # J, counter, per component
HW_HOST_ENERGY: Final = "hw.host.energy"  # J, counter, whole machine; never summed with hw.energy
HW_POWER: Final = "hw.power"  # W, gauge, only where no counter exists
SYSTEM_CPU_UTILIZATION: Final = "system.cpu.utilization"  # ratio
SYSTEM_MEMORY_UTILIZATION: Final = "system.memory.utilization"  # ratio
SYSTEM_UPTIME: Final = "system.uptime"  # s
PROCESS_CPU_TIME: Final = "process.cpu.time"  # s

HW_ID: Final = "hw.id"
HW_TYPE: Final = "hw.type"
HOST_ID: Final = "host.id"
HOST_NAME: Final = "host.name"
HOST_ARCH: Final = "host.arch"
OS_TYPE: Final = "os.type"
SERVICE_VERSION: Final = "service.version"
