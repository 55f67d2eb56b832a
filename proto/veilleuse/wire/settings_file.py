# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Settings as typed sections: TOML file < environment < flags, with the same dotted names everywhere.

Both sides use it, so that a setting is written the same way on an agent and on the collector. A `Section`
declares its settings as `name: type = setting(default, doc, …)`. A setting whose type is another Section is a
section within it. Sections are not dataclasses, whose module costs the resident process a megabyte:
docs/decisions/0010.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Self, TypeVar, dataclass_transform

from veilleuse.wire.files import FileRefused, read_named

T = TypeVar("T", bound="Section")
LARGEST_BYTES: Final = 1 << 20
"""Largest size of a configuration file."""
_INTEGER_BITS: Final = 63
"""Largest size of a whole number that databases and the system accept."""
_SHOWN_CHARACTERS: Final = 60
_MOST_DOTS: Final = 64


class ConfigurationError(Exception):
    """Unusable configuration; the message states the fault, its place and the remedy."""

    exit_code: ClassVar[int] = 2


def setting(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], object] | None = None,
) -> Any:
    """Declare a documented setting of a Section. `minimum`, `maximum` and `choices` are checked on load.

    `check` is called with a value other than the default. It raises ValueError that states what the value
    must be.
    """
    return _Setting(default, doc, minimum, maximum, choices, check)


class _Setting(NamedTuple):
    default: Any
    doc: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    check: Callable[[Any], object] | None


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Section:
    """Immutable group of settings: `Measure(tick_seconds=5.0)` leaves the rest at its defaults.

    Type checkers know the keywords and the types of attributes. Raises TypeError for a keyword that is no
    setting, and AttributeError on assignment. Values are not checked here: `load` checks them, and can name
    their origin.
    """

    _settings: ClassVar[dict[str, _Setting]] = {}

    def __init_subclass__(cls) -> None:
        cls._settings = {name: value for name, value in vars(cls).items() if isinstance(value, _Setting)}
        for name, declared in cls._settings.items():
            setattr(cls, name, declared.default)  # an instance holds only values that differ

    def __init__(self, **values: Any) -> None:
        if unknown := values.keys() - self._settings.keys():
            raise TypeError(f"{type(self).__name__} has no setting {', '.join(sorted(unknown))}")
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings do not change: use _replace({name}=…)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"settings do not change: {name} stays")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values().values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self._values().items())
        return f"{type(self).__name__}({values})"

    def _replace(self, **values: Any) -> Self:
        """Return a copy with other values for these settings."""
        return type(self)(**{**vars(self), **values})

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._settings}


class SettingDescription(NamedTuple):
    """Documentation of one setting."""

    dotted: str
    """E.g. `spool.max_bytes`."""
    kind: Any
    default: Any
    doc: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    check: Callable[[Any], object] | None


_UNQUOTED: Final = (bool, int, float)
"""Kinds that TOML has without quotes."""


def load(
    settings_class: type[T],
    *,
    file: Path | None,
    environment: Mapping[str, str],
    prefix: str,
    overrides: Mapping[str, str] | None = None,
    retired: Mapping[str, str] | None = None,
    tell: Callable[[str], object] | None = None,
    is_typed: bool = False,
) -> T:
    """Load the settings.

    `prefix` is the environment's, e.g. `VEILLEUSE_AGENT`: `VEILLEUSE_AGENT__SPOOL__MAX_BYTES=…`. `retired`
    maps each key that an earlier version knew to `since VERSION: why, and what to do`: it is left out, and
    `tell` is called with one line about it. `is_typed`: a number or a truth
    value in the file may not be written as a text. Raises ConfigurationError on unreadable or malformed TOML,
    unknown keys, wrong types or values out of range.
    """
    known = {described.dotted: described for described in describe(settings_class)}
    flat: dict[str, tuple[Any, str]] = {}
    for dotted, value, where in _given(file, environment, prefix, overrides or {}):
        if value == {} and any(key.startswith(dotted + ".") for key in (*known, *(retired or ()))):
            continue  # a section with every key commented out
        if dotted not in known and retired and dotted in retired:
            if tell is not None:
                tell(f"key '{dotted}' {where} is no longer used {retired[dotted]}")
            continue
        _require_known(dotted, known, where)
        if is_typed and where == f"in {file}" and isinstance(value, str) and known[dotted].kind in _UNQUOTED:
            raise ConfigurationError(
                f"'{dotted}' {where} must be {_word(known[dotted].kind)}, not a text: leave out its quotes"
            )
        flat[dotted] = (value, where)
    values = {dotted: _coerce(known[dotted], value, where) for dotted, (value, where) in flat.items()}
    return _build(settings_class, values, "")


def _given(
    file: Path | None, environment: Mapping[str, str], prefix: str, overrides: Mapping[str, str]
) -> Iterator[tuple[str, Any, str]]:
    """(dotted name, value, where it is given), the later one wins."""
    for dotted, value in _read_toml(file) if file is not None else ():
        yield dotted, value, f"in {file}"
    for name, text in environment.items():
        if name.startswith(prefix + "__"):
            yield name[len(prefix) + 2 :].lower().replace("__", "."), text, f"in the environment ({name})"
    for dotted, text in overrides.items():
        yield dotted, text, "on the command line"


def describe(settings_class: type[Section], path: str = "") -> Iterator[SettingDescription]:
    """Every setting of the class, sections depth first, in the order they are written."""
    hints = typing.get_type_hints(settings_class)
    for name, declared in settings_class._settings.items():
        dotted = f"{path}.{name}" if path else name
        if _is_section(hints[name]):
            yield from describe(hints[name], dotted)
        else:
            yield SettingDescription(dotted, hints[name], *declared)


def render_default(settings_class: type[Section]) -> str:
    """Render the full default configuration as commented TOML.

    Every key, its documentation and its default.
    """
    lines: list[str] = []
    section = ""
    for described in sorted(describe(settings_class), key=lambda item: item.dotted.count(".") > 0):
        head, _, name = described.dotted.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"[{section}]"]
        lines += [f"# {line}" for line in described.doc.splitlines()]
        bounds = [
            f"{word} {bound:.15g}"
            for word, bound in (("minimum", described.minimum), ("maximum", described.maximum))
            if bound is not None
        ]
        if described.choices:
            bounds.append("one of " + ", ".join(described.choices))
        if bounds:
            lines.append(f"# ({'; '.join(bounds)})")
        lines.append(f"# {name} = {_toml(described.default)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    Raises ValueError with one line, also for input that breaks or blocks Python's parser.
    """
    import re
    import tomllib  # imported only when there is a file, to save memory

    part = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
    if re.search(rf"(?<![\w-])(?:{part}){{{_MOST_DOTS + 1}}}", text):
        # the parser's time grows with the square of this number
        raise ValueError(f"a key has more than {_MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("its tables or lists are nested too deeply") from error
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:
        # Python reads no longer numbers, and its message is for programmers
        raise ValueError("a number has more than 4,300 digits") from error


def _read_toml(file: Path) -> list[tuple[str, Any]]:
    """Return (dotted name, value) of each key."""
    try:
        return list(_flatten(parse_toml(read_named(file, LARGEST_BYTES).decode("utf-8"))))
    except FileNotFoundError as error:
        raise ConfigurationError(f"no configuration file {file}: create it, or leave out --config") from error
    except FileRefused as error:
        raise ConfigurationError(
            f"cannot read {file}: {error.strerror}; name the TOML file of settings"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot read {file}: {getattr(error, 'strerror', None) or error}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error


def _flatten(raw: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        dotted = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value:
            yield from _flatten(value, dotted)
        else:
            yield dotted, value


def _require_known(dotted: str, known: Mapping[str, SettingDescription], where: str) -> None:
    if dotted in known:
        return
    from difflib import get_close_matches  # imported only for an error

    leaf = {key.rpartition(".")[2]: key for key in known}
    near = get_close_matches(dotted, list(known), n=1) or [
        leaf[match] for match in get_close_matches(dotted.rpartition(".")[2], list(leaf), n=1)
    ]
    hint = f"; the nearest known key is '{near[0]}'" if near else ""
    raise ConfigurationError(f"unknown key {_shorten(dotted)} {where}{hint}")


def _coerce(described: SettingDescription, value: Any, where: str) -> Any:
    kind = described.kind
    _require_printable(described.dotted, value, where)
    try:
        result = _convert(kind, value)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ConfigurationError(
            f"'{described.dotted}' {where} must be {_word(kind)}, not {_shorten(value)}"
        ) from error
    if described.choices and result not in described.choices:
        raise ConfigurationError(
            f"'{described.dotted}' {where} is {_shorten(result)}: use one of {', '.join(described.choices)}"
        )
    for bound, wrong, word in ((described.minimum, -1, "at least"), (described.maximum, 1, "at most")):
        if bound is not None and (result - bound) * wrong > 0:
            raise ConfigurationError(
                f"'{described.dotted}' {where} is {result}: it must be {word} {bound:.15g}"
            )
    if described.check is not None and result != described.default:
        try:
            described.check(result)
        except ValueError as error:
            import re  # only for an error

            why = re.sub(r"//\S*:\S*@", "//…@", str(error))  # a part of a list may be a URL with a password
            raise ConfigurationError(f"'{described.dotted}' {where} is {_shorten(result)}: {why}") from error
    return result


def _require_printable(dotted: str, value: Any, where: str) -> None:
    """Refuse control characters, line breaks and bytes that are no UTF-8: they fail where they are used."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and not text.isprintable():
            raise ConfigurationError(
                f"'{dotted}' {where} has a character that cannot be printed: {_shorten(text)}; write it on one line, "
                "without control characters"
            )


def _convert(kind: Any, value: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
    if typing.get_origin(kind) is tuple:
        parts = (
            [part.strip() for part in value.split(",") if part.strip()]
            if isinstance(value, str)
            else list(value)
        )
        return tuple(_convert(typing.get_args(kind)[0], part) for part in parts)
    if isinstance(value, bool) or (kind in (int, float) and not isinstance(value, (int, float, str))):
        raise TypeError(value)
    if kind is int and isinstance(value, float):
        raise TypeError(value)
    if kind is str and not isinstance(value, str):
        raise TypeError(value)
    if kind is Path and not (isinstance(value, str) and value):
        raise TypeError(value)
    if kind in (int, float) and isinstance(value, str) and not value.isascii():
        raise ValueError(value)  # digits of another script
    result = kind(value)
    if kind is int and result.bit_length() > _INTEGER_BITS:
        raise ValueError(value)
    if kind is float and not float("-inf") < result < float("inf"):
        raise ValueError(value)
    return result


def _build(settings_class: type[T], values: Mapping[str, Any], path: str) -> T:
    hints = typing.get_type_hints(settings_class)
    arguments: dict[str, Any] = {}
    for name in settings_class._settings:
        dotted = f"{path}.{name}" if path else name
        if _is_section(hints[name]):
            arguments[name] = _build(hints[name], values, dotted)
        elif dotted in values:
            arguments[name] = values[dotted]
    return settings_class(**arguments)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _shorten(value: Any) -> str:
    """Shorten a value for an error message, without the password of a URL. It may have any length."""
    if isinstance(value, int) and value.bit_length() > _INTEGER_BITS:
        return f"a number of {value.bit_length():,} bits"
    if isinstance(value, str):
        value = _without_userinfo(value)
        if len(value) > _SHOWN_CHARACTERS:
            return f"{value[:_SHOWN_CHARACTERS]!r}…"
    return _without_userinfo(repr(value))[: 2 * _SHOWN_CHARACTERS]


def _without_userinfo(text: str) -> str:
    """Replace all before the last `@` by an ellipsis where it has a colon, as in http://user:password@host."""
    before, at, host = text.rpartition("@")
    return f"…@{host}" if at and ":" in before else text


def _word(kind: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}.get(
        kind, "a list"
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return '"' + str(value if value is not None else "").replace("\\", "\\\\").replace('"', '\\"') + '"'
