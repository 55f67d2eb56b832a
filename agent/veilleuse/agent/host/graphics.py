# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the graphics adapters of this machine, for `doctor` and `selftest`.

They are not sent, because no figure uses them.

Sources: PCI Code and ID Assignment Specification 1.15, base class 03; kernel
Documentation/ABI/testing/sysfs-bus-pci and sysfs-driver-amdgpu (mem_info_vram_total).
"""

from __future__ import annotations

from typing import Final, NamedTuple, cast

from veilleuse.agent.platforms import load_module
from veilleuse.agent.sources.files import entries, text_or_none
from veilleuse.wire.limits import fact_text

_MAKERS: Final = {0x1002: "amd", 0x10DE: "nvidia", 0x8086: "intel"}
_GRAPHICS: Final = "0x03"
"""Start of the PCI class of every display controller."""


class GraphicsAdapter(NamedTuple):
    """A card, or the graphics of the processor: which of the two, PCI does not tell."""

    model: str
    """Maker and model number on PCI, e.g. `nvidia 1f06`; never a serial number."""
    name: str | None
    """Name that the driver gives; None on Linux."""
    memory_bytes: int | None
    """Memory of its own; None where the driver does not tell."""


def graphics_here(sysfs: str) -> tuple[GraphicsAdapter, ...]:
    """Return the adapters of this machine; `sysfs` is used on Linux only."""
    return cast("tuple[GraphicsAdapter, ...]", load_module("facts").graphics_here(sysfs))


def adapter_of(maker: int, device: int, name: str | None, memory_bytes: int | None) -> GraphicsAdapter:
    """Build an adapter from its numbers on PCI."""
    model = f"{_MAKERS.get(maker, f'{maker:04x}')} {device:04x}"
    return GraphicsAdapter(model, None if name is None else fact_text(name), memory_bytes or None)


def adapters_of_sysfs(sysfs: str) -> tuple[GraphicsAdapter, ...]:
    """Return the adapters on the PCI bus of a Linux machine."""
    root = f"{sysfs}/bus/pci/devices"
    found = []
    for address in sorted(entries(root)):
        device = f"{root}/{address}"
        maker, model = _number(f"{device}/vendor"), _number(f"{device}/device")
        if (text_or_none(f"{device}/class") or "").startswith(_GRAPHICS) and maker and model:
            found.append(adapter_of(maker, model, None, _number(f"{device}/mem_info_vram_total")))
    return tuple(found)


def _number(path: str) -> int | None:
    try:
        return int(text_or_none(path) or "", 0)
    except ValueError:
        return None
