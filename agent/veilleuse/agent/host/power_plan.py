# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the part of the power plan on mains that a service without a session can know.

It reads system files, never a home directory.

A setting that a user may change is not known here, whatever its default. So a GNOME or KDE default counts
only when it is locked. A logind default always counts, because no user can change it. A second setting can
only make the machine sleep sooner, not later.

Sources: logind.conf(5), sleep.conf(5), systemd.time(7), systemd.unit(5); dconf(7) and dconf's update of
keyfiles; KDE's configuration files, `[$i]`. Compared with systemd-analyze and dconf:
tests/unit/agent/host/test_powerplan.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from veilleuse.wire.units import MILLISECONDS_PER_SECOND

NEVER: Final = 0
_LARGEST_BYTES: Final = 256 * 1024
_SYSTEMD: Final = ("etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd")
"""Configuration directories. systemd.conf(5): the first one wins for files of the same name."""
_ENDING_ACTIONS: Final = frozenset(
    {"suspend", "hibernate", "hybrid-sleep", "suspend-then-hibernate", "sleep", "poweroff", "halt"}
)
"""Values of IdleAction= after which the machine is no longer on."""
_POWER_OFF_ACTIONS: Final = frozenset({"poweroff", "halt"})
_DEFAULT_IDLE_SECONDS: Final = 1_800
"""Default of logind.conf(5): IdleActionSec=30min."""
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Zµ]*)\s*")
_UNITS: Final = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
    **dict.fromkeys(("ms", "msec"), 0.001),
    **dict.fromkeys(("us", "usec", "µs"), 0.000_001),
}
_GNOME_POWER: Final = "/org/gnome/settings-daemon/plugins/power"
_GNOME_IDLE: Final = "/org/gnome/desktop/session/idle-delay"
_KDE_FILES: Final = ("etc/xdg/powerdevilrc", "etc/xdg/powermanagementprofilesrc")
"""Files of Plasma 6 and of Plasma 5."""


class PowerPlan(NamedTuple):
    """Delays on mains, in seconds; NEVER = 0; None = not known, or a user may change it."""

    display_off_ac_seconds: int | None
    sleep_ac_seconds: int | None


def power_plan(root: str | Path = "/") -> PowerPlan:
    """Read the plan from the files below `root`; a file that cannot be read is ignored."""
    base = Path(root)
    action, idle_seconds = idle_action(base)
    sleep = _agreed_value(_desktop_sleep(base))
    if not may_sleep(base):
        sleep = NEVER
        action = action if action in _POWER_OFF_ACTIONS else "ignore"
    if action in _ENDING_ACTIONS and idle_seconds:
        sleep = min(sleep or idle_seconds, idle_seconds)
    return PowerPlan(_agreed_value(_desktop_display_off(base)), sleep)


# ----------------------------------------------------------------------------------------- systemd


def idle_action(root: Path) -> tuple[str, int]:
    """Return (IdleAction, IdleActionSec in seconds; 0 = never) of logind, with its drop-ins."""
    settings = _systemd_settings(root, "logind.conf", "Login")
    seconds = span_seconds(settings.get("IdleActionSec", "")) if settings.get("IdleActionSec") else None
    return settings.get("IdleAction") or "ignore", _DEFAULT_IDLE_SECONDS if seconds is None else seconds


def may_sleep(root: Path) -> bool:
    """Tell if systemd lets the machine sleep.

    False when sleep.target is masked or sleep.conf forbids all ways.
    """
    for folder in _SYSTEMD[:2]:
        unit = root / folder / "system" / "sleep.target"
        try:
            if os.readlink(unit) == "/dev/null":
                return False
        except OSError:
            continue
    settings = _systemd_settings(root, "sleep.conf", "Sleep")
    # A combined way is allowed when both of its ways are (sleep.conf(5)), unless the file says otherwise.
    ways = ("AllowSuspend", "AllowHibernation")
    return not all(settings.get(way, "yes").lower() in ("no", "false", "off", "0", "n", "f") for way in ways)


def span_seconds(text: str) -> int | None:
    """Convert a systemd.time(7) span to whole seconds, e.g. `1h 30min` or `90`.

    `infinity` gives 0, which means never. None when the text is not a span.
    """
    text = text.strip()
    if text == "infinity":
        return NEVER
    total, position = 0.0, 0
    while position < len(text):
        found = _SPAN.match(text, position)
        if found is None or found[2] not in _UNITS:
            return None
        total += float(found[1]) * _UNITS[found[2]]
        position = found.end()
    return round(total) if position and total < 2**32 else None


def _systemd_settings(root: Path, name: str, section: str) -> dict[str, str]:
    """Read the settings of the first main file found, then of all drop-ins in the order of their names.

    When two directories hold drop-ins of the same name, only the first counts.
    """
    main = next((path for folder in _SYSTEMD if (path := root / folder / name).exists()), None)
    drop_ins: dict[str, Path] = {}
    for folder in _SYSTEMD:
        for path in _files(root / folder / f"{name}.d", ".conf", or_hidden=True):
            drop_ins.setdefault(path.name, path)
    settings: dict[str, str] = {}
    for path in (*((main,) if main is not None else ()), *(drop_ins[key] for key in sorted(drop_ins))):
        for group, key, value in _assignments(_text(path), ";#"):
            if group == section:
                settings[key] = value  # an empty value restores the default
    return settings


# ------------------------------------------------------------------------------------------- dconf


def locked_gnome(root: Path) -> dict[str, str]:
    """Return key → GVariant text of the locked keys in the system's dconf databases that sessions use."""
    found: dict[str, str] = {}
    for database in _databases(root):
        if not (root / "etc/dconf/db" / database).is_file():
            continue  # never compiled by `dconf update`, so not in force
        folder = root / "etc/dconf/db" / f"{database}.d"
        locks = tuple(
            line.strip()
            for path in _files(folder / "locks", "")
            for line in _text(path).splitlines()
            if line.startswith("/")
        )
        values: dict[str, str] = {}
        for path in _files(folder, ""):  # the last file by name wins
            values |= {f"/{group}/{key}": value for group, key, value in _assignments(_text(path), "#")}
        for key, value in values.items():
            if key in locks:  # the last database that locks a key wins
                found[key] = value
    return found


def _databases(root: Path) -> list[str]:
    """Return the system databases of the profile `user`; without this profile dconf uses none."""
    for folder in ("etc/dconf/profile", "usr/local/share/dconf/profile", "usr/share/dconf/profile"):
        if (profile := root / folder / "user").is_file():
            lines = (line.partition("#")[0].strip() for line in _text(profile).splitlines())
            return [
                line.partition(":")[2] for line in lines if re.fullmatch(r"system-db:[A-Za-z0-9._-]+", line)
            ]
    return []


def _gnome_seconds(value: str | None) -> int | None:
    found = re.fullmatch(r"(?:uint32 |int32 )?(\d{1,10})", value or "")
    return int(found[1]) if found else None


# ------------------------------------------------------------------------------------- both desktops


def _desktop_sleep(root: Path) -> Iterator[int]:
    """Yield the sleep delay of each desktop's locked settings, in seconds."""
    gnome = locked_gnome(root)
    kind = (gnome.get(f"{_GNOME_POWER}/sleep-inactive-ac-type") or "").strip("'\"")
    seconds = _gnome_seconds(gnome.get(f"{_GNOME_POWER}/sleep-inactive-ac-timeout"))
    if kind in ("nothing", "blank", "logout", "interactive") or seconds == NEVER:
        yield NEVER
    elif kind in ("suspend", "hibernate", "shutdown") and seconds is not None:
        yield seconds
    kde = _locked_kde(root)
    action = kde.get("AC/SuspendAndShutdown/AutoSuspendAction")
    if action == "0":
        yield NEVER
    elif (
        action in ("1", "2", "8")
        and (after := kde.get("AC/SuspendAndShutdown/AutoSuspendIdleTimeoutSec", "")).isdigit()
    ):
        yield int(after)
    if (old := kde.get("AC/SuspendSession/idleTime", "")).isdigit() and kde.get(
        "AC/SuspendSession/suspendType"
    ) in ("1", "2", "8"):
        yield int(old) // MILLISECONDS_PER_SECOND  # Plasma 5 stores milliseconds here


def _desktop_display_off(root: Path) -> Iterator[int]:
    seconds = _gnome_seconds(locked_gnome(root).get(_GNOME_IDLE))
    if seconds is not None:
        yield seconds
    kde = _locked_kde(root)
    if kde.get("AC/Display/TurnOffDisplayWhenIdle") == "false":
        yield NEVER
    elif (after := kde.get("AC/Display/TurnOffDisplayIdleTimeoutSec", "")).isdigit():
        yield int(after)
    elif (old := kde.get("AC/DPMSControl/idleTime", "")).isdigit():
        yield int(old)  # Plasma 5 stores seconds here


def _locked_kde(root: Path) -> dict[str, str]:
    """Return `group/subgroup/key` → value of the settings that `[$i]` makes immutable.

    `[$i]` may apply to the file, a group or one key.
    """
    found: dict[str, str] = {}
    for name in _KDE_FILES:
        whole, group_locked, group = False, False, ""
        for line in _text(root / name).splitlines():
            line = line.strip()
            if line.startswith("["):
                parts = re.findall(r"\[([^\]]*)\]", line)
                group_locked = "$i" in parts
                group = "/".join(part for part in parts if part != "$i")
                whole = whole or not group  # [$i] alone, before any group
            elif "=" in line and not line.startswith("#"):
                key, _, value = line.partition("=")
                locked = whole or group_locked or key.strip().endswith("[$i]")
                if locked:
                    found[f"{group}/{key.strip().removesuffix('[$i]')}"] = value.strip()
    return found


def _agreed_value(delays: Iterator[int]) -> int | None:
    """Return the only value; None when there is none or two desktops differ.

    The desktop that runs is not known here.
    """
    values = set(delays)
    return values.pop() if len(values) == 1 else None


# ------------------------------------------------------------------------------------------- files


def _assignments(text: str, comment: str) -> Iterator[tuple[str, str, str]]:
    """Yield (section, key, value) of a file in INI format."""
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in comment:
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            yield section, key.strip(), value.strip()


def _files(folder: Path, suffix: str, *, or_hidden: bool = False) -> list[Path]:
    """List the files with this suffix, sorted by name.

    `or_hidden` also lists links to /dev/null. Such a link hides a file of the same name in a later directory:
    systemd.conf(5).
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.name.endswith(suffix))
        return [
            path for path in found if path.is_file() or (or_hidden and os.path.realpath(path) == os.devnull)
        ]
    except OSError:
        return []


def _text(path: Path) -> str:
    """Return the file's text; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
