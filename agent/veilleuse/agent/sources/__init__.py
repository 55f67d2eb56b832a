# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The ways of measuring: a plain table, and the entry points that join it. Nothing is imported until chosen."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, cast

from veilleuse.agent.errors import ConfigurationError, SourceUnavailable
from veilleuse.agent.model import Point
from veilleuse.agent.ports import LoadSource, Source, SourceContext

BUILTIN: Final = {
    "linux_rapl": "veilleuse.agent.sources.linux_rapl:LinuxRapl",
    "linux_hwmon": "veilleuse.agent.sources.linux_hwmon:LinuxHwmon",
    "linux_battery": "veilleuse.agent.sources.linux_battery:LinuxBattery",
    "fake": "veilleuse.agent.sources.fake:Fake",
}
"""Energy and supply: name → module:class."""
UTILISATION: Final = "veilleuse.agent.sources.utilisation:Utilisation"
"""Always on: without it no state can be told."""
NOT_BY_DEFAULT: Final = frozenset({"fake"})
ENTRY_POINT_GROUP: Final = "veilleuse.sources"

SourceFactory = Callable[[SourceContext], Source]


class OpenedSource(NamedTuple):
    """A source that works here."""

    source: Source
    points: tuple[Point, ...]


class Unavailable(NamedTuple):
    """A source that this machine does not offer."""

    name: str
    word: str
    """no_device, no_permission, virtual_machine, missing_library."""
    reason: str
    remedy: str
    """Empty when there is nothing to do."""


class Sources(NamedTuple):
    """What this machine can measure, and what it cannot, with the reason."""

    opened: tuple[OpenedSource, ...]
    load: LoadSource | None
    unavailable: tuple[Unavailable, ...]

    def close(self) -> None:
        """Close every source."""
        for opened in self.opened:
            opened.source.close()


def open_all(names: Iterable[str], context: SourceContext) -> Sources:
    """Open the named sources, or all built-in ones but `fake` when none is named; and utilisation.

    Raises ConfigurationError on a name that neither the table nor an entry point knows.
    """
    chosen = tuple(dict.fromkeys(name for name in names if name != "utilisation")) or tuple(
        name for name in BUILTIN if name not in NOT_BY_DEFAULT
    )
    opened: list[OpenedSource] = []
    unavailable: list[Unavailable] = []
    for name in chosen:
        try:
            source = _factory(name)(context)
            opened.append(OpenedSource(source, source.open()))
        except SourceUnavailable as error:
            unavailable.append(Unavailable(name, error.word, error.reason, error.remedy))
    load = _open_load(context, unavailable)
    return Sources(tuple(opened), load, tuple(unavailable))


def _open_load(context: SourceContext, unavailable: list[Unavailable]) -> LoadSource | None:
    try:
        load = cast("Callable[[SourceContext], LoadSource]", _load_class("utilisation", UTILISATION))(context)
        load.open()
    except SourceUnavailable as error:
        unavailable.append(Unavailable("utilisation", error.word, error.reason, error.remedy))
        return None
    return load


def _factory(name: str) -> SourceFactory:
    if (target := BUILTIN.get(name)) is not None:
        return cast("SourceFactory", _load_class(name, target))
    return _from_entry_points(name)


def _load_class(name: str, target: str) -> object:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise SourceUnavailable(
            "missing_library", f"{name} needs a library: {error}", "install its extra"
        ) from error


def _from_entry_points(name: str) -> SourceFactory:
    from importlib.metadata import entry_points  # heavy: only when a name is not ours

    known = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in known:
        from difflib import get_close_matches

        near = get_close_matches(name, [*BUILTIN, *known], n=1)
        hint = f"; the nearest known one is '{near[0]}'" if near else ""
        raise ConfigurationError(f"unknown source '{name}' in measure.sources{hint}")
    try:
        return cast("SourceFactory", known[name].load())
    except ImportError as error:
        raise SourceUnavailable(
            "missing_library", f"{name} needs a library: {error}", "install its extra"
        ) from error
