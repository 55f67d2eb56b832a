# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test NVIDIA GPUs through NVIDIA's binding, without a GPU, over tests/support/fakes/nvml.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from tests.support.fakes.nvml import LOST, NOT_SUPPORTED, FakeGpu, FakeNvml, loaded
from tests.support.processes import ran
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.nvidia_nvml import NvidiaNvml
from veilleuse.wire.vocabulary import Boundary, PointKind

FIRST = Point(PointKind.GPU, "gpu-0000_41_00.0", Boundary.COMPONENT)
SECOND = Point(PointKind.GPU, "gpu-0000_81_00.0", Boundary.COMPONENT)


class Bench:
    """Holds a machine with two GPUs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "dev").mkdir()
        (folder / "dev/nvidiactl").touch()
        self.first, self.second = FakeGpu("0000:41:00.0"), FakeGpu("0000:81:00.0")
        self.table = FakeNvml(self.first, self.second)

    def source(self, virtualisation: str = "none") -> NvidiaNvml:
        return NvidiaNvml(SourceContext(f"{self.folder}/sys", f"{self.folder}/proc", virtualisation))

    def procfs(self, address: str, status: str) -> None:
        """Write the driver's file of a GPU's power state in the format of its README."""
        folder = self.folder / "proc/driver/nvidia/gpus" / address
        folder.mkdir(parents=True)
        (folder / "power").write_text(
            f"Runtime D3 status:          {status}\nVideo Memory:               Active\n"
        )


@pytest.fixture
def gpus(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench whose NVML library is loaded."""
    bench = Bench(tmp_path)
    with loaded(bench.table):
        yield bench


def test_energy_is_counted_where_the_board_counts(gpus):
    """The counter is in µJ, without a range, with a ceiling of twice the board's power limit."""
    source = gpus.source()
    assert source.open() == (FIRST, SECOND)
    assert source.read() == (
        EnergyCounter(FIRST, 5_000_000_000, None, 600.0),
        EnergyCounter(SECOND, 5_000_000_000, None, 600.0),
    )


def test_power_where_there_is_no_counter(gpus):
    """A GPU older than Volta has only power in mW; above twice the limit there is no reading."""
    gpus.first.energy_millijoules = None
    source = gpus.source()
    source.open()
    assert source.read()[0] == PowerGauge(FIRST, 70_000)
    gpus.first.power_milliwatts = 600_001
    assert FIRST not in {getattr(one, "point", None) for one in source.read()}


def test_a_counter_that_only_fails_now_does_not_become_a_gauge(gpus):
    """Only "not supported" makes a point a gauge; after any other error it remains a counter."""
    gpus.first.error = pynvml.NVML_ERROR_TIMEOUT
    gpus.procfs(gpus.first.address, "Disabled by default")
    gpus.procfs(gpus.second.address, "Not supported")
    source = gpus.source()
    assert source.open() == (FIRST, SECOND)
    gpus.first.error = 0
    source.close()
    assert source.open() == (FIRST, SECOND)
    assert isinstance(source.read()[0], EnergyCounter)


def test_one_falls_off_the_bus(gpus):
    """A lost GPU leaves the other's reading; without any the read fails; a reset one is found by `open`."""
    source = gpus.source()
    source.open()
    gpus.first.error = LOST
    assert [one.point for one in source.read()] == [SECOND]
    gpus.second.error = LOST
    with pytest.raises(ReadFailed, match="GPU is lost"):
        source.read()
    gpus.first.error = gpus.second.error = 0
    source.close()
    assert source.open() == (FIRST, SECOND)
    assert len(source.read()) == 2


def test_a_gpu_keeps_its_name_when_numbers_move(gpus):
    """NVML's indices move when a GPU is lost; the remaining GPU keeps its name."""
    source = gpus.source()
    source.open()
    source.close()
    del gpus.table.gpus[0]
    assert source.open() == (SECOND,)


def test_a_lost_gpu_that_the_driver_still_names_is_offered(gpus):
    """The point of a lost GPU is still offered and has no reading."""
    gpus.procfs(gpus.first.address, "Disabled by default")
    gpus.procfs(gpus.second.address, "Disabled by default")
    gpus.first.error = LOST
    source = gpus.source()
    assert source.open() == (FIRST, SECOND)
    assert [one.point for one in source.read()] == [SECOND]


def test_a_container_is_shown_its_own_gpu_only(gpus):
    """In a container, procfs lists all GPUs and NVML finds one: only that one is offered."""
    for gpu in (gpus.first, gpus.second):
        gpus.procfs(gpu.address, "Not supported")
    del gpus.table.gpus[0]
    assert gpus.source("container").open() == (SECOND,)


def test_driver_reloaded_under_us(gpus):
    """A reloaded driver ends the session: the read fails, and the counter begins at 0 after the next open."""
    source = gpus.source()
    source.open()
    gpus.table.sessions = 0
    with pytest.raises(ReadFailed):
        source.read()
    source.close()
    gpus.first.energy_millijoules = 0
    source.open()
    assert source.read()[0] == EnergyCounter(FIRST, 0, None, 600.0)


@pytest.mark.parametrize("status", ["Enabled (fine-grained)", "Enabled (coarse-grained)"])
def test_a_gpu_that_sleeps_is_not_woken(gpus, status):
    """NVML is not loaded for a GPU with runtime power-down; another GPU is still offered."""
    gpus.procfs(gpus.first.address, status)
    with pytest.raises(SourceUnavailable, match="would keep it awake") as caught:
        gpus.source().open()
    assert caught.value.word == "no_device"
    assert gpus.table.sessions == 0
    gpus.procfs(gpus.second.address, "Not supported")
    assert gpus.source().open() == (SECOND,)


def test_vgpu(gpus):
    """A virtual GPU has no energy of its own: the source is unavailable and ends its session."""
    for gpu in (gpus.first, gpus.second):
        gpu.energy_millijoules = gpu.power_milliwatts = None
    with pytest.raises(SourceUnavailable, match="its host's") as caught:
        gpus.source("kvm").open()
    assert caught.value.word == "virtual_machine"
    assert gpus.table.sessions == 0, "it gave its session back"


@pytest.mark.parametrize(
    ("code", "word", "remedy"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "no_device", "nvidia-smi"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "no_device", "restart the machine"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no_permission", "/dev/nvidiactl"),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "missing_library", "libnvidia-ml"),
        (999, "no_device", ""),
    ],
)
def test_why_it_does_not_start(gpus, code, word, remedy):
    """Each NVML error has its word and remedy."""
    gpus.table.init_error = code
    with pytest.raises(SourceUnavailable) as caught:
        gpus.source().open()
    assert caught.value.word == word
    assert remedy in caught.value.remedy


def test_no_gpu_at_all(gpus):
    """A driver without a GPU is unavailable, and the session is ended."""
    gpus.table.gpus.clear()
    with pytest.raises(SourceUnavailable, match="has no GPU"):
        gpus.source().open()
    assert gpus.table.sessions == 0


def test_a_limit_that_is_not_told(gpus):
    """Without a power limit the ceiling is the largest module's; more than ten years of it is no reading."""
    gpus.first.limit_milliwatts = None
    source = gpus.source()
    source.open()
    assert source.read()[0] == EnergyCounter(FIRST, 5_000_000_000, None, 3_000.0)
    gpus.first.energy_millijoules = 2**64 - 1
    assert [one.point for one in source.read()] == [SECOND]


PROGRAM = """
import sys
sys.modules["pynvml"] = None  # as where it is not installed
from veilleuse.agent.errors import SourceUnavailable
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.nvidia_nvml import NvidiaNvml
try:
    NvidiaNvml(SourceContext(sys.argv[1] + "/sys", sys.argv[1] + "/proc", "none")).open()
except SourceUnavailable as error:
    print(error.word, error.remedy)
"""


@pytest.mark.parametrize(
    ("device", "said"),
    [(True, "missing_library install veilleuse[gpu]\n"), (False, "no_device \n")],
)
def test_without_the_binding(tmp_path, device, said):
    """The missing binding is reported only if a driver exists."""
    if device:
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/nvidiactl").touch()
    done = ran([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True)
    assert done.stdout == said


def test_codes_are_nvidias(gpus):
    """The fake's codes are those of the binding."""
    assert NOT_SUPPORTED == 3
    assert LOST == 15
