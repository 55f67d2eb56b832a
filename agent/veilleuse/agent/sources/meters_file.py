# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads `meters.toml`: the external meters that this machine reads, and their credentials.

    [[meter]]
    name = "rack-a"
    source = "snmp_meter"
    address = "192.0.2.7:161"

Not in the resident process. As strict as the other settings: an unknown key refuses the file, because a
misspelt key could stay unnoticed for a year. Every message gives file, table, key and remedy.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from veilleuse.agent.errors import ConfigurationError, SourceUnavailable
from veilleuse.agent.platforms import here
from veilleuse.agent.ports import MeterSpec
from veilleuse.wire.files import read_named, read_with_status
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.settings_file import parse_toml
from veilleuse.wire.vocabulary import Boundary

MAX_METERS: Final = 32
"""Largest number of meters: each needs a thread."""
LONGEST_NAME: Final = 40
"""Longest name of a meter.

A point's name has 64 characters: the meter's name, a full stop, the part's name.
"""
EVERY_SECONDS: Final = 20
LONGEST_TIMEOUT_SECONDS: Final = 30.0
MACHINE_CEILING_WATTS: Final = 4_000.0
"""One socket of 16 A at 230 V is 3,680 W."""
SHARED_CEILING_WATTS: Final = 25_000.0
"""Three phases of 32 A at 230 V are 22,080 W."""
LARGEST_BYTES: Final = 1 << 20
"""Largest size of the meters file."""
_LARGEST_CREDENTIALS_BYTES: Final = 4_096

OptionsOf = Callable[[str], Mapping[str, type] | None]


class _Key(NamedTuple):
    kind: type
    bounds: tuple[float, float] | None = None


_KEYS: Final = {
    "name": _Key(str),
    "source": _Key(str),
    "address": _Key(str),
    "shared": _Key(bool),
    "boundary": _Key(str),
    "every_seconds": _Key(int, (10, 60)),
    "timeout_seconds": _Key(float, (0.1, LONGEST_TIMEOUT_SECONDS)),
    "ceiling_watts": _Key(float, (1, 10_000_000)),
    "credentials_file": _Key(str),
}
_KINDS: Final = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def read_meters(path: Path, options_of: OptionsOf) -> tuple[MeterSpec, ...]:
    """Return the meters of a file, in its order; none when the file does not exist.

    `options_of` returns the further keys of a source, or None when the source's library is missing. It raises
    ConfigurationError on an unknown source. Raises ConfigurationError.
    """
    try:
        content, found = read_with_status(path, LARGEST_BYTES)
        mode = stat.S_IMODE(found.st_mode)
        raw = parse_toml(content.decode("utf-8"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror};"
            " make it a file that the agent's user may read, or set paths.meters"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path} is not text in UTF-8; write it again as docs/sources.md explains"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{path} is not TOML: {error}; correct it, `veilleuse-agent poll --once` tries it"
        ) from error
    if here.ACCESS_BY_MODE and mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"{path} has mode {mode:04o}: everybody on this machine could have secrets sent elsewhere;"
            f" chmod o-w {path}"
        )
    for key in raw:
        if key != "meter":
            raise ConfigurationError(
                f"unknown key '{key}' in {path}; every meter is a table of its own: [[meter]]"
            )
    tables = raw.get("meter", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(
            f"meter in {path} is not a list of tables: write [[meter]], twice in brackets"
        )
    if len(tables) > MAX_METERS:
        raise ConfigurationError(
            f"{path} has {len(tables)} meters, at most {MAX_METERS} are read: let other agents read some"
        )
    meters = tuple(_Table(path, index, table, options_of).meter() for index, table in enumerate(tables, 1))
    _require_distinct(path, [one.meter for one in meters])
    return meters


def read_credentials(path: str) -> tuple[str, str]:
    """Return (name, secret) of a credentials file.

    Its first line is `name:secret`, or the secret alone (then the name is empty). A secret alone that
    contains a colon is written with a colon before it. Raises SourceUnavailable, also when others than the
    agent's user and group may read the file.
    """
    try:
        if trouble := explain_exposure(path):
            raise SourceUnavailable("no_permission", trouble, f"chmod o-rwx {path}")
        text = read_named(Path(path), _LARGEST_CREDENTIALS_BYTES).decode("utf-8")
    except OSError as error:
        raise SourceUnavailable(
            "no_permission",
            f"cannot read credentials_file {path}: {error.strerror}",
            "create it, mode 0640, of root and the agent's group",
        ) from error
    except UnicodeDecodeError as error:
        raise SourceUnavailable(
            "no_permission", f"credentials_file {path} is not text in UTF-8", "write `name:secret` into it"
        ) from error
    line = text.partition("\n")[0].strip("\r")
    name, colon, secret = line.partition(":")
    if not colon:
        name, secret = "", line
    if not secret:
        raise SourceUnavailable(
            "no_permission", f"credentials_file {path} holds no secret", "write `name:secret` into it"
        )
    return name, secret


def explain_exposure(path: str) -> str:
    """Return why a file is not safe for a secret: others may read or change it; empty when it is safe.

    Raises OSError. On Windows always empty: access lists decide there, and the installer sets them on the
    folder.
    """
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if not here.ACCESS_BY_MODE or not mode & stat.S_IRWXO:
        return ""
    return f"credentials_file {path} has mode {mode:04o}: everybody on this machine could use what is in it"


class _Table:
    """One [[meter]] table while it is read."""

    def __init__(self, path: Path, index: int, raw: dict[str, Any], options_of: OptionsOf) -> None:
        self._raw = raw
        name = raw.get("name")
        self._where = f"[[meter]] {index}{f' ({name!r})' if isinstance(name, str) else ''} of {path}"
        self._options_of = options_of

    def meter(self) -> MeterSpec:
        """Return the table's meter. Raises ConfigurationError."""
        source = self._text("source", required=True)
        try:
            options = self._options_of(source)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._where}: {error}") from error
        if options is None:
            given = {key: type(value) for key, value in self._raw.items() if key not in _KEYS}
            options = {key: kind if kind in _KINDS else str for key, kind in given.items()}
        self._require_known(source, options)
        name = self._text("name", required=True)
        if not FACT_PATTERN.fullmatch(name) or len(name) > LONGEST_NAME:
            self._refuse("name", f"is 1 to {LONGEST_NAME} letters, digits, spaces, . _ or -")
        shared = bool(self._value("shared", False))
        boundary = self._text("boundary") or Boundary.WALL.value
        if boundary not in {one.value for one in Boundary}:
            self._refuse("boundary", f"is one of {', '.join(one.value for one in Boundary)}")
        every = int(self._value("every_seconds", EVERY_SECONDS))
        timeout = float(self._value("timeout_seconds", min(5.0, every / 2)))
        if timeout > every / 2:
            self._refuse("timeout_seconds", f"is at most half of every_seconds ({every})")
        ceiling = SHARED_CEILING_WATTS if shared else MACHINE_CEILING_WATTS
        return MeterSpec(
            meter=name,
            source=source,
            address=self._text("address"),
            subject=f"meter:{name}" if shared else "machine",
            boundary=Boundary(boundary),
            every_seconds=every,
            timeout_seconds=timeout,
            ceiling_watts=float(self._value("ceiling_watts", ceiling)),
            credentials_file=self._credentials_file(),
            options={key: self._check_value(key, _Key(options[key])) for key in self._raw if key in options},
        )

    def _credentials_file(self) -> str:
        path = self._text("credentials_file")
        if not path:
            return ""
        if not os.path.isabs(path):
            self._refuse("credentials_file", "is an absolute path")
        try:
            trouble = explain_exposure(path)
        except OSError:
            return path  # the meter itself reports the unreadable file, and the others continue
        if trouble:
            raise ConfigurationError(f"{self._where}: {trouble}; chmod o-rwx {path}")
        return path

    def _require_known(self, source: str, options: Iterable[str]) -> None:
        known = [*_KEYS, *options]
        for key in self._raw:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = (
                    f"the nearest known one is '{near[0]}'" if near else f"{source} knows {', '.join(known)}"
                )
                raise ConfigurationError(f"unknown key '{key}' in {self._where}; {hint}")

    def _text(self, key: str, *, required: bool = False) -> str:
        text = str(self._value(key, ""))
        if required and not text:
            raise ConfigurationError(f'{self._where} has no {key}; add {key} = "…"')
        return text

    def _value(self, key: str, default: Any) -> Any:
        return self._check_value(key, _KEYS[key]) if key in self._raw else default

    def _check_value(self, key: str, known: _Key) -> Any:
        value: Any = self._raw[key]
        right: tuple[type, ...] = (int, float) if known.kind is float else (known.kind,)
        if not isinstance(value, right) or (isinstance(value, bool) and known.kind is not bool):
            self._refuse(key, f"is {_KINDS[known.kind]}")
        if known.bounds is not None and isinstance(value, (int, float)):
            least, most = known.bounds
            if not least <= value <= most:
                self._refuse(key, f"is {least:g} to {most:g}")
        return value

    def _refuse(self, key: str, must: str) -> NoReturn:
        raise ConfigurationError(f"{key} = {self._raw.get(key)!r} in {self._where}: {key} {must}; correct it")


def _require_distinct(path: Path, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"{path} has {names.count(name)} meters named {name!r}; give each a name of its own"
            )
