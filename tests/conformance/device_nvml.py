# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Two GPUs behind a fake libnvidia-ml; the Python binding is NVIDIA's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.polled import Device
from tests.support.fakes.nvml import LOST, NOT_SUPPORTED, FakeGpu, FakeNvml, loaded
from veilleuse.agent.ports import SourceContext


@contextmanager
def nvidia_nvml(folder: Path) -> Iterator[Device]:
    """Give a machine with two GPUs and /dev/nvidiactl; `absent` is a machine without them."""
    (folder / "dev").mkdir(parents=True)
    (folder / "dev" / "nvidiactl").touch()
    first, second = FakeGpu("0000:41:00.0"), FakeGpu("0000:81:00.0")

    def fail_with(code: int) -> Callable[[], None]:
        def fail() -> None:
            first.error = second.error = code

        return fail

    def set_to(energy: int | None, power: int | None) -> Callable[[], None]:
        def change() -> None:
            for gpu in (first, second):
                gpu.error = 0
                gpu.energy_millijoules, gpu.power_milliwatts = energy, power

        return change

    with loaded(FakeNvml(first, second)):
        yield Device(
            context=SourceContext(f"{folder}/sys", f"{folder}/proc", "none"),
            refuse=fail_with(LOST),
            answer=set_to(5_000_000, 70_000),
            expected={
                "gpu gpu-0000_41_00.0": "5000.0 J, component",
                "gpu gpu-0000_81_00.0": "5000.0 J, component",
            },
            nonsense=(
                set_to(2**64 - 1, 2**32 - 1),
                set_to(None, 2**32 - 1),
                set_to(None, None),
                fail_with(NOT_SUPPORTED),
                fail_with(999),
            ),
            absent=SourceContext(f"{folder}/elsewhere/sys", f"{folder}/elsewhere/proc", "none"),
        )
