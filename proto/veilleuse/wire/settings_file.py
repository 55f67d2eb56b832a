# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Settings from frozen dataclasses: TOML file < environment < flags, the same dotted names everywhere.

Both sides use it so that a setting is written the same way on an agent and on the collector. A setting is
a field made with `setting(default, doc, …)`; a section is a field whose type is another such dataclass.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigurationError(Exception):
    """A configuration that cannot be used; the message says what, where and what to do. Exit code 2."""


def setting(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A documented field. `minimum`, `maximum` and `choices` are checked on load."""
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum, "choices": choices}
    if dataclasses.is_dataclass(default):
        kind = type(default)
        return dataclasses.field(default_factory=lambda: kind(), metadata=metadata)  # type: ignore[misc]  # a class
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """One setting as documented."""

    dotted: str
    """E.g. `spool.max_bytes`."""
    kind: Any
    default: Any
    doc: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]


def load(
    settings_class: type[T],
    *,
    file: Path | None,
    environment: Mapping[str, str],
    prefix: str,
    overrides: Mapping[str, str] | None = None,
) -> T:
    """The settings; `file` None or missing-by-default is the caller's business: a given file must exist.

    `prefix` is the environment's, e.g. `VEILLEUSE_AGENT`: `VEILLEUSE_AGENT__SPOOL__MAX_BYTES=…`.
    Raises ConfigurationError on unreadable or malformed TOML, unknown keys, wrong types or values out of range.
    """
    raw: dict[str, Any] = _read_toml(file) if file is not None else {}
    known = {described.dotted: described for described in describe(settings_class)}
    flat: dict[str, tuple[Any, str]] = {}
    for dotted, value in _flatten(raw):
        if value == {} and any(key.startswith(dotted + ".") for key in known):
            continue  # a section with every key commented out
        _require_known(dotted, known, f"in {file}")
        flat[dotted] = (value, f"in {file}")
    for name, text in environment.items():
        if name.startswith(prefix + "__"):
            dotted = name[len(prefix) + 2 :].lower().replace("__", ".")
            _require_known(dotted, known, f"in the environment ({name})")
            flat[dotted] = (text, f"in the environment ({name})")
    for dotted, text in (overrides or {}).items():
        _require_known(dotted, known, "on the command line")
        flat[dotted] = (text, "on the command line")
    values = {dotted: _coerce(known[dotted], value, where) for dotted, (value, where) in flat.items()}
    return _build(settings_class, values, "")


def describe(settings_class: type[Any], path: str = "") -> Iterator[Described]:
    """Every setting of the class, sections depth first, in the order they are written."""
    hints = typing.get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        dotted = f"{path}.{field.name}" if path else field.name
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from describe(typing.cast("type[Any]", kind), dotted)
            continue
        yield Described(
            dotted,
            kind,
            field.default,
            field.metadata["doc"],
            field.metadata["minimum"],
            field.metadata["maximum"],
            field.metadata["choices"],
        )


def render_default(settings_class: type[Any]) -> str:
    """The full default configuration as commented TOML: every key, its documentation and its default."""
    lines: list[str] = []
    section = ""
    for described in sorted(describe(settings_class), key=lambda item: item.dotted.count(".") > 0):
        head, _, name = described.dotted.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"[{section}]"]
        lines += [f"# {line}" for line in described.doc.splitlines()]
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("minimum", described.minimum), ("maximum", described.maximum))
            if bound is not None
        ]
        if described.choices:
            bounds.append("one of " + ", ".join(described.choices))
        if bounds:
            lines.append(f"# ({'; '.join(bounds)})")
        lines.append(f"# {name} = {_toml(described.default)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _read_toml(file: Path) -> dict[str, Any]:
    import tomllib  # only when there is a file: memory

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"no configuration file {file}: create it, or leave out --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error


def _flatten(raw: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        dotted = f"{path}.{name}" if path else name
        if isinstance(value, dict) and value:
            yield from _flatten(value, dotted)
        else:
            yield dotted, value


def _require_known(dotted: str, known: Mapping[str, Described], where: str) -> None:
    if dotted in known:
        return
    from difflib import get_close_matches  # only on the way to an error

    leaf = {key.rpartition(".")[2]: key for key in known}
    near = get_close_matches(dotted, list(known), n=1) or [
        leaf[match] for match in get_close_matches(dotted.rpartition(".")[2], list(leaf), n=1)
    ]
    hint = f"; the nearest known key is '{near[0]}'" if near else ""
    raise ConfigurationError(f"unknown key '{dotted}' {where}{hint}")


def _coerce(described: Described, value: Any, where: str) -> Any:
    kind = described.kind
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    try:
        result = _convert(kind, value)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigurationError(f"'{described.dotted}' {where} must be {_word(kind)}, not {value!r}") from error
    if described.choices and result not in described.choices:
        raise ConfigurationError(f"'{described.dotted}' {where} is {result!r}: use one of {', '.join(described.choices)}")
    for bound, wrong, word in ((described.minimum, -1, "at least"), (described.maximum, 1, "at most")):
        if bound is not None and (result - bound) * wrong > 0:
            raise ConfigurationError(f"'{described.dotted}' {where} is {result}: it must be {word} {bound:g}")
    return result


def _convert(kind: Any, value: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
    if typing.get_origin(kind) is tuple:
        parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else list(value)
        return tuple(_convert(typing.get_args(kind)[0], part) for part in parts)
    if isinstance(value, bool) or (kind in (int, float) and not isinstance(value, (int, float, str))):
        raise TypeError(value)
    if kind is int and isinstance(value, float):
        raise TypeError(value)
    if kind is str and not isinstance(value, str):
        raise TypeError(value)
    if kind is Path and not isinstance(value, str):
        raise TypeError(value)
    result = kind(value)
    if kind is float and not float("-inf") < result < float("inf"):
        raise ValueError(value)
    return result


def _build(settings_class: type[T], values: Mapping[str, Any], path: str) -> T:
    hints = typing.get_type_hints(settings_class)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(settings_class):  # type: ignore[arg-type]  # a dataclass by contract
        dotted = f"{path}.{field.name}" if path else field.name
        if dataclasses.is_dataclass(hints[field.name]):
            arguments[field.name] = _build(hints[field.name], values, dotted)
        elif dotted in values:
            arguments[field.name] = values[dotted]
    return settings_class(**arguments)


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
