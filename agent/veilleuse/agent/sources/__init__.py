# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Registers the sources: the built-in ones (wire/vocabulary.py) and entry points.

A source is imported only when chosen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, cast

from veilleuse.agent.errors import ConfigurationError, SourceUnavailable
from veilleuse.agent.model import Point
from veilleuse.agent.platforms import PLATFORM
from veilleuse.agent.ports import LoadSource, Source, SourceContext
from veilleuse.wire.vocabulary import POLLED_SOURCES, SOURCES, SOURCES_OF_SYSTEM


def _target(name: str) -> str:
    """Return module:class of a source: the file has its name, the class has it in capitalised words."""
    return f"veilleuse.agent.sources.{name}:{name.title().replace('_', '')}"


BUILTIN: Final = {
    **{name: _target(name) for name in SOURCES_OF_SYSTEM.get(PLATFORM, ())},
    "polled": "veilleuse.agent.sources.polled:PolledSources",
    "fake": _target("fake"),
}
"""Sources of energy and supply in the measuring process: name → module:class.

Only those of this operating system are listed, so the others are never imported.
"""
SELF_DETECTING: Final = {
    "nvidia_nvml": ("nvidiactl", r"C:\Windows\System32\nvml.dll"),
    "ipmi_dcmi": ("ipmi0", "ipmi/0", "ipmidev/0"),
}
"""Polled sources that need no entry in the meters file → files (below /dev), one of which must exist."""
CONTROLLER: Final = "ipmi_dcmi"
"""The one of SELF_DETECTING that asks this machine's management controller."""
CONTROLLERS: Final = (CONTROLLER, "redfish")
"""The two ways to ask the same controller."""
UTILISATION: Final = _target("utilisation")
"""Always opened: without it no state is known."""
UNITS: Final = "linux_units"
"""Chosen only by `measure.units` (resident/open_sources.py)."""
NOT_BY_DEFAULT: Final = frozenset({"fake", UNITS})
_NOT_RETRIED: Final = frozenset({UNITS, "utilisation"})
"""Sources that are not retried: units may be missing because they were refused (resident/open_sources.py).

The load is not a `Source`.
"""
ENTRY_POINT_GROUP: Final = "veilleuse.sources"
POLLED_ENTRY_POINT_GROUP: Final = "veilleuse.polled_sources"

SourceFactory = Callable[[SourceContext], Source]


class OpenedSource(NamedTuple):
    """A source that works on this machine."""

    source: Source
    points: tuple[Point, ...]


class Unavailable(NamedTuple):
    """A source that this machine does not offer."""

    name: str
    word: str
    """One of no_device, no_permission, virtual_machine, missing_library."""
    reason: str
    remedy: str
    """Empty when there is nothing to do."""
    source: Source | None = None
    """The source that could not be opened; None when it could not be built."""


class Sources(NamedTuple):
    """The sources that work on this machine, and the others with the reason."""

    opened: tuple[OpenedSource, ...]
    load: LoadSource | None
    unavailable: tuple[Unavailable, ...]

    def retry(self, name: str, context: SourceContext) -> tuple[Sources, OpenedSource | None]:
        """Try an unavailable source again; return the new sources, and the opened one.

        The second is None when the source is still not available, or is one that is not retried (units,
        load).
        """
        if name not in {missing.name for missing in self.unavailable} - _NOT_RETRIED:
            return self, None
        try:
            found = _open_source(name, context)
        except ConfigurationError:  # an entry point that was uninstalled since
            return self, None
        if isinstance(found, Unavailable):  # the reason may have changed
            same = tuple(found if missing.name == name else missing for missing in self.unavailable)
            return self._replace(unavailable=same), None
        others = tuple(missing for missing in self.unavailable if missing.name != name)
        return self._replace(opened=(*self.opened, found), unavailable=others), found

    def close(self) -> None:
        """Close every source."""
        for opened in self.opened:
            opened.source.close()


def open_all(names: Iterable[str], context: SourceContext, *, units: bool = False) -> Sources:
    """Open the named sources, or all built-in ones but `fake` when none is named.

    The load is always opened; UNITS only with `units`. A name of POLLED_SOURCES means `polled`, which reads
    that source. Raises ConfigurationError on a name that is neither built in nor an entry point.
    """
    wanted = ("polled" if name in POLLED_SOURCES else name for name in names if name != "utilisation")
    chosen = tuple(dict.fromkeys(wanted)) or tuple(name for name in BUILTIN if name not in NOT_BY_DEFAULT)
    chosen = (*(name for name in chosen if name != UNITS), *((UNITS,) if units else ()))
    opened: list[OpenedSource] = []
    unavailable: list[Unavailable] = []
    for name in chosen:
        found = _open_source(name, context)
        if isinstance(found, Unavailable):
            unavailable.append(found)
        else:
            opened.append(found)
    load = _open_load(context, unavailable)
    return Sources(tuple(opened), load, tuple(unavailable))


def _open_source(name: str, context: SourceContext) -> OpenedSource | Unavailable:
    """Open one source. Raises ConfigurationError on an unknown name, and nothing else."""
    source: Source | None = None
    try:
        source = _factory(name)(context)
        return OpenedSource(source, source.open())
    except SourceUnavailable as error:
        return Unavailable(name, error.word, error.reason, error.remedy, source)
    except ConfigurationError:
        raise
    except Exception as error:  # a defect in a source costs only its own readings
        return Unavailable(
            name, "no_device", f"a defect of the source: {type(error).__name__}: {error}", "report it", source
        )


def _open_load(context: SourceContext, unavailable: list[Unavailable]) -> LoadSource | None:
    try:
        load = cast("Callable[[SourceContext], LoadSource]", _load_class("utilisation", UTILISATION))(context)
        load.open()
    except SourceUnavailable as error:
        unavailable.append(Unavailable("utilisation", error.word, error.reason, error.remedy))
        return None
    return load


def polls(names: Sequence[str]) -> tuple[str, ...]:
    """Return the polled sources that `measure.sources` allows: the named ones.

    All are allowed when the setting is empty or contains `polled`.
    """
    if not names or "polled" in names:
        return POLLED_SOURCES
    return tuple(name for name in POLLED_SOURCES if name in names)


def polled_factory(name: str) -> SourceFactory:
    """Return the class of a polled source.

    Raises SourceUnavailable (missing_library), or ConfigurationError on an unknown name.
    """
    if name in POLLED_SOURCES:
        return cast("SourceFactory", _load_class(name, _target(name)))
    return _from_entry_points(name, POLLED_ENTRY_POINT_GROUP, POLLED_SOURCES, "the meters file")


def _factory(name: str) -> SourceFactory:
    if (target := BUILTIN.get(name)) is not None:
        return cast("SourceFactory", _load_class(name, target))
    if name in SOURCES:
        raise SourceUnavailable("no_device", f"{name} is a source of another operating system")
    return _from_entry_points(name, ENTRY_POINT_GROUP, sorted(SOURCES), "measure.sources")


def _load_class(name: str, target: str) -> object:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise SourceUnavailable(
            "missing_library", f"{name} needs a library: {error}", "install its extra"
        ) from error


def _from_entry_points(name: str, group: str, ours: Iterable[str], where: str) -> SourceFactory:
    from importlib.metadata import entry_points  # heavy: only when a name is not ours

    known = {entry.name: entry for entry in entry_points(group=group)}
    if name not in known:
        from difflib import get_close_matches

        near = get_close_matches(name, [*ours, *known], n=1)
        hint = (
            f"; the nearest known one is '{near[0]}'" if near else f"; it knows {', '.join([*ours, *known])}"
        )
        raise ConfigurationError(f"unknown source '{name}' in {where}{hint}")
    try:
        return cast("SourceFactory", known[name].load())
    except ImportError as error:
        raise SourceUnavailable(
            "missing_library", f"{name} needs a library: {error}", "install its extra"
        ) from error
