# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Hardware models of the simulated fleet. None of them exists: no maker is judged by made-up figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from veilleuse.wire.vocabulary import DeviceClass

VENDOR: Final = "Simulated"


@dataclass(frozen=True, slots=True)
class Model:
    """What the machines of a model have in common."""

    name: str
    device_class: DeviceClass
    cpu_count: int
    memory_gibibytes: int
    package_idle_watts: float = 0.0
    """RAPL package with nothing to do; 0: its counters cannot be read."""
    package_full_watts: float = 0.0
    dram_watts: float = 0.0
    cpu_model: str | None = "Simulated CPU"
    hard_disks: int = 0
    solid_state_disks: int = 1
    own_meter: bool = False
    """Its BMC tells what it draws at the wall."""
    shared_meter: bool = False
    """It hangs on a PDU that another machine's agent polls."""
    calibrated: bool = False
    """Somebody measured a few of them beside a meter."""

    @property
    def has_counters(self) -> bool:
        """Whether an agent reads RAPL on it."""
        return self.package_full_watts > 0


DESK: Final = Model("Pupitre 7", DeviceClass.SFF, 8, 16, 3.0, 48.0, 1.2, calibrated=True)
OLD_DESK: Final = Model("Pupitre 4", DeviceClass.SFF, 4, 8)
BOARD: Final = Model("Tableau 24", DeviceClass.ALL_IN_ONE, 8, 16, 3.5, 40.0, 1.0)
OFFICE: Final = Model("Bureau 8", DeviceClass.SFF, 8, 16, 2.8, 52.0, 1.2)
OLD_OFFICE: Final = Model("Bureau 5", DeviceClass.SFF, 4, 8, 4.0, 45.0, 1.5)
NOTEBOOK: Final = Model("Carnet 14", DeviceClass.LAPTOP, 12, 16, 1.2, 24.0, 0.6)
OLD_NOTEBOOK: Final = Model("Carnet 12", DeviceClass.LAPTOP, 8, 8, 1.8, 20.0, 0.8)
RACK_BMC: Final = Model(
    "Baie R1", DeviceClass.SERVER, 64, 256, 45.0, 250.0, 14.0, own_meter=True, solid_state_disks=4
)
RACK_PDU: Final = Model(
    "Baie R2", DeviceClass.SERVER, 32, 128, 35.0, 180.0, 9.0, shared_meter=True, hard_disks=4
)
RACK_BARE: Final = Model("Baie R3", DeviceClass.SERVER, 32, 128, 38.0, 190.0, 10.0, hard_disks=2)
VIRTUAL: Final = Model("VM", DeviceClass.VIRTUAL_MACHINE, 4, 8, cpu_model=None, solid_state_disks=0)

COLLEGE_MODELS: Final = (DESK, OLD_DESK, DESK, BOARD, DESK, OLD_DESK, DESK)
DIRECTION_MODELS: Final = (NOTEBOOK, OFFICE, NOTEBOOK, OLD_NOTEBOOK, OFFICE, NOTEBOOK, OLD_OFFICE)
ROOM_MODELS: Final = (RACK_PDU, RACK_BMC, RACK_PDU, RACK_BARE)
"""Of each place, one after the other."""
