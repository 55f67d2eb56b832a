# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The power plan on mains, as far as a service without a session can truly know it: from files of the system, never of a home.

What a user may change is not known here, whatever the default says: a default of GNOME or KDE counts when it is locked. A
default of logind counts always, as no user can change it; what may make the machine sleep sooner does not make it later.

Sources: logind.conf(5), sleep.conf(5), systemd.time(7), systemd.unit(5); dconf(7) and dconf's update of keyfiles; KDE's
configuration files, `[$i]`. Tried against systemd-analyze and dconf: tests/unit/agent/host/test_powerplan.py.
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
"""systemd.conf(5): the first directory wins for a file of the same name."""
_ENDING_ACTIONS: Final = frozenset(
    {"suspend", "hibernate", "hybrid-sleep", "suspend-then-hibernate", "sleep", "poweroff", "halt"}
)
"""IdleAction= after which the machine is not on any more."""
_POWER_OFF_ACTIONS: Final = frozenset({"poweroff", "halt"})
_DEFAULT_IDLE_SECONDS: Final = 1_800
"""logind.conf(5): IdleActionSec=30min."""
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
"""Plasma 6, Plasma 5."""


class PowerPlan(NamedTuple):
    """Seconds on mains; NEVER = 0; None = not known, or a user may change it."""

    display_off_ac_seconds: int | None
    sleep_ac_seconds: int | None


def power_plan(root: str | Path = "/") -> PowerPlan:
    """What the files below `root` say; those that cannot be read say nothing."""
    base = Path(root)
    action, idle_seconds = idle_action(base)
    sleep = _one_of(_desktop_sleep(base))
    if not may_sleep(base):
        sleep = NEVER
        action = action if action in _POWER_OFF_ACTIONS else "ignore"
    if action in _ENDING_ACTIONS and idle_seconds:
        sleep = min(sleep or idle_seconds, idle_seconds)
    return PowerPlan(_one_of(_desktop_display_off(base)), sleep)


# ----------------------------------------------------------------------------------------- systemd


def idle_action(root: Path) -> tuple[str, int]:
    """(IdleAction, IdleActionSec in seconds; 0 = never) of logind, its drop-ins included."""
    told = _systemd_settings(root, "logind.conf", "Login")
    seconds = span_seconds(told.get("IdleActionSec", "")) if told.get("IdleActionSec") else None
    return told.get("IdleAction") or "ignore", _DEFAULT_IDLE_SECONDS if seconds is None else seconds


def may_sleep(root: Path) -> bool:
    """Whether systemd lets the machine sleep at all: not when sleep.target is masked, nor when sleep.conf forbids all ways."""
    for folder in _SYSTEMD[:2]:
        unit = root / folder / "system" / "sleep.target"
        try:
            if os.readlink(unit) == "/dev/null":
                return False
        except OSError:
            continue
    told = _systemd_settings(root, "sleep.conf", "Sleep")
    # The combined ways are allowed when both of theirs are (sleep.conf(5)), unless the file says otherwise.
    ways = ("AllowSuspend", "AllowHibernation")
    return not all(told.get(way, "yes").lower() in ("no", "false", "off", "0", "n", "f") for way in ways)


def span_seconds(text: str) -> int | None:
    """Whole seconds of systemd.time(7)'s spans, e.g. `1h 30min`, `90`; `infinity` is 0, never; None when it is not one."""
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
    """The main file, the first that is found, then all drop-ins by name, the same name from the first directory only."""
    main = next((path for folder in _SYSTEMD if (path := root / folder / name).exists()), None)
    drop_ins: dict[str, Path] = {}
    for folder in _SYSTEMD:
        for path in _files(root / folder / f"{name}.d", ".conf", or_hidden=True):
            drop_ins.setdefault(path.name, path)
    told: dict[str, str] = {}
    for path in (*((main,) if main is not None else ()), *(drop_ins[key] for key in sorted(drop_ins))):
        for group, key, value in _assignments(_text(path), ";#"):
            if group == section:
                told[key] = value  # an empty value takes the former back: the default
    return told


# ------------------------------------------------------------------------------------------- dconf


def locked_gnome(root: Path) -> dict[str, str]:
    """Key → GVariant text, of the system's dconf databases that sessions use, as far as it is locked there."""
    found: dict[str, str] = {}
    for database in _databases(root):
        if not (root / "etc/dconf/db" / database).is_file():
            continue  # never compiled by `dconf update`: not in force
        folder = root / "etc/dconf/db" / f"{database}.d"
        locks = tuple(
            line.strip()
            for path in _files(folder / "locks", "")
            for line in _text(path).splitlines()
            if line.startswith("/")
        )
        values: dict[str, str] = {}
        for path in _files(folder, ""):  # of two files the later name has the last word
            values |= {f"/{group}/{key}": value for group, key, value in _assignments(_text(path), "#")}
        for key, value in values.items():
            if key in locks:  # the lowest database that locks a key decides: it comes last
                found[key] = value
    return found


def _databases(root: Path) -> list[str]:
    """Of the profile `user`; without one dconf knows no database of the system."""
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
    """What each desktop's locked settings say."""
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
        yield int(old) // MILLISECONDS_PER_SECOND  # Plasma 5 counts in ms here


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
        yield int(old)  # Plasma 5 counts in s here


def _locked_kde(root: Path) -> dict[str, str]:
    """`group/subgroup/key` → value of what `[$i]` makes immutable: the file, a group or one key."""
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


def _one_of(said: Iterator[int]) -> int | None:
    """What all say; None when nobody does, or two desktops differ: which one runs is not known here."""
    values = set(said)
    return values.pop() if len(values) == 1 else None


# ------------------------------------------------------------------------------------------- files


def _assignments(text: str, comment: str) -> Iterator[tuple[str, str, str]]:
    """(section, key, value) of a file in the manner of INI."""
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
    """`or_hidden`: also links to /dev/null, which hide a file of the same name in a later directory: systemd.conf(5)."""
    try:
        found = sorted(path for path in folder.iterdir() if path.name.endswith(suffix))
        return [
            path for path in found if path.is_file() or (or_hidden and os.path.realpath(path) == os.devnull)
        ]
    except OSError:
        return []


def _text(path: Path) -> str:
    """Empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
