# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the external displays that are on, by size class, under Windows.

A service runs in session 0, where QueryDisplayConfig is refused. Plug and Play is the same in all sessions:
the interfaces of the present monitors, and in the registry what Windows read from each. Windows tells whether
the displays of the console are on. Only the size class is reported: no name, no serial number.

Sources: Windows documentation, GUID_DEVINTERFACE_MONITOR, CM_DEVCAP_REMOVABLE (cfgmgr32.h), Container IDs,
PowerSettingRegisterNotification, GUID_CONSOLE_DISPLAY_STATE.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import DisplaysReading, Point, Reading
from veilleuse.agent.platforms.windows.calls import WindowsCallError, WindowsCallTable
from veilleuse.agent.platforms.windows.system import table
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.edid import is_edid, size_class
from veilleuse.wire.limits import DISPLAY_SIZES

MONITOR_INTERFACE: Final = "{e6f07b5f-ee97-4a90-b076-33f57bf4eaa7}"
"""GUID_DEVINTERFACE_MONITOR."""
CONSOLE_DISPLAY_STATE: Final = "{6fe69556-704a-47a0-8f24-c28d936fda47}"
"""GUID_CONSOLE_DISPLAY_STATE: 0 off, 1 on, 2 dimmed."""
ENUM_KEY: Final = r"SYSTEM\CurrentControlSet\Enum"
_OFF: Final = 0
_REMOVABLE: Final = 0x4
"""CM_DEVCAP_REMOVABLE."""
_COMPUTER: Final = "{00000000-0000-0000-ffff-ffffffffffff}"
"""Container ID of all that is inside the case."""
_NO_MONITOR: Final = "default_monitor"
"""Model of the monitor that Windows assumes where none answers, as on a machine without any."""


class _Monitor(NamedTuple):
    built_in: bool
    size: int
    """Place in DISPLAY_SIZES."""


class WindowsDisplays:
    """`ports.Source` of one `DisplaysReading` a tick."""

    name = "windows_displays"

    def __init__(self, context: SourceContext, calls: WindowsCallTable | None = None) -> None:
        """Take `calls`, Windows' own by default; tests pass another table."""
        self._virtualisation = context.virtualisation
        self._may_have_panel = context.may_have_panel
        self._calls = calls
        self._state: int | None = None
        self._monitors: dict[str, _Monitor | None] = {}
        """Path of each present monitor; None = Windows only assumes it."""
        self._has_seen_panel = False

    def open(self) -> tuple[Point, ...]:
        """Return no point: displays have no energy reading.

        Raises SourceUnavailable: virtual_machine or no_device.
        """
        if self._virtualisation not in ("none", "container"):
            raise SourceUnavailable(
                "virtual_machine", "virtual machine: its displays are windows of its host"
            )
        if self._calls is None:
            # One table for the whole process, because Windows calls back for the life of the process.
            self._calls = table()
        try:
            self._calls.interfaces(MONITOR_INTERFACE)
            self._calls.on_power_setting(CONSOLE_DISPLAY_STATE, self._note_state)
        except WindowsCallError as error:
            raise SourceUnavailable(
                "no_device", f"Windows does not list its displays, or not whether they are on: {error}"
            ) from error
        return ()

    def read(self) -> tuple[Reading, ...]:
        """Count the displays that are on now, by size.

        Raises ReadFailed when this is not known.
        """
        if self._calls is None or self._state is None:
            raise ReadFailed("Windows has not told yet whether the displays are on")
        counts = [0] * len(DISPLAY_SIZES)
        if self._state != _OFF:
            for monitor in self._external_monitors(self._calls):
                counts[monitor.size] += 1
        return (DisplaysReading(tuple(counts)),)

    def close(self) -> None:
        """Delete the cached displays."""
        self._monitors.clear()

    def _note_state(self, state: int) -> None:
        """Keep the state of the console's display; called in a thread of the system."""
        self._state = state

    def _external_monitors(self, calls: WindowsCallTable) -> list[_Monitor]:
        """Return the present external monitors.

        Where the machine may have a panel of its own, one must have been seen as such: only then is it known
        that this machine tells its panel from an external display. A closed lid hides the panel.
        """
        try:
            paths = calls.interfaces(MONITOR_INTERFACE)
        except WindowsCallError as error:
            raise ReadFailed(f"Windows does not list its displays: {error}") from error
        before = self._monitors
        self._monitors = {path: before[path] if path in before else _monitor(calls, path) for path in paths}
        present = [monitor for monitor in self._monitors.values() if monitor is not None]
        external = [monitor for monitor in present if not monitor.built_in]
        self._has_seen_panel = self._has_seen_panel or len(external) < len(present)
        if external and self._may_have_panel and not self._has_seen_panel:
            raise ReadFailed("the machine's own panel has not been seen yet: open the lid once")
        return external


def _monitor(calls: WindowsCallTable, path: str) -> _Monitor | None:
    r"""Read a monitor from the registry, by its path `\\?\DISPLAY#<model>#<instance>#{…}`.

    Raises ReadFailed when Windows does not tell whether it is built in.
    """
    bus, model, instance, *_ = *path.rpartition("\\")[2].split("#"), "", ""
    key = rf"{ENUM_KEY}\{bus}\{model}\{instance}"
    found = calls.registry(rf"{key}\Device Parameters", "EDID")
    edid = found if isinstance(found, bytes) else b""
    if model.lower() == _NO_MONITOR and not is_edid(edid):
        return None
    capabilities, container = calls.registry(key, "Capabilities"), calls.registry(key, "ContainerID")
    if not isinstance(capabilities, int) or not isinstance(container, str):
        raise ReadFailed(f"Windows does not tell whether the display {model} is built in")
    return _Monitor(not capabilities & _REMOVABLE or container.lower() == _COMPUTER, size_class(edid))
