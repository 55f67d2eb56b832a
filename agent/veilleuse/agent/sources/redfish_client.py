# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds the machine's power in a Redfish service, and sums it.

The search has no I/O: `fetch` returns resources.

Source: DMTF DSP2046 (Chassis, EnvironmentMetrics, Power, PowerSubsystem, PowerSupplyMetrics). Known problems:
a chassis inside another shows a part of the outer one's power again. A PowerControl list mixes the whole with
its parts (Lenovo: server, CPU, memory), or the node with its enclosure. One enclosure may hold several
machines. Values are summed only when the service says that they are separate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.sources.http_json import (
    Answer,
    Endpoint,
    Exchange,
    basic_header,
    document_of,
    explain_refusal,
)
from veilleuse.agent.sources.readings import inside, number
from veilleuse.wire.limits import fact_text

ROOT: Final = "/redfish/v1/"
_SESSIONS: Final = "/redfish/v1/SessionService/Sessions"
_REFUSED_SECONDS: Final = 300
"""Pause after refused credentials: controllers lock an account after repeated attempts."""
_LONGEST_RETRY_SECONDS: Final = 300
_USUAL_RETRY_SECONDS: Final = 60
_LOGOUT_SECONDS: Final = 2.0


class Service:
    """One service, with its session and its pauses."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: tuple[str, str] | None,
        *,
        sessions: bool,
        timeout_seconds: float,
    ) -> None:
        """Take the credentials.

        Without `sessions` use Basic authentication only; without `credentials` none.
        """
        self._endpoint = endpoint
        self._credentials = credentials
        self._sessions = sessions
        self._timeout_seconds = timeout_seconds
        self._token = ""
        self._session = ""
        self._sessions_path = _SESSIONS
        self._not_before = 0.0
        self._why_not = ""

    @property
    def is_paused(self) -> bool:
        """True while the service must not be asked."""
        return time.monotonic() < self._not_before

    def exchange(self) -> Exchange:
        """Open an exchange for all requests of one read.

        Raises ReadFailed while the service must not be asked.
        """
        if self.is_paused:
            raise ReadFailed(self._why_not)
        return Exchange(self._endpoint, self._timeout_seconds)

    def get(self, exchange: Exchange, path: str) -> dict[str, Any] | None:
        """Return the resource; None when it does not exist. Raises ReadFailed."""
        if path == ROOT:  # needs no credentials; links to the sessions
            root = document_of(exchange, self._check_busy(exchange.get(path)))
            listed = inside(root, "Links", "Sessions", "@odata.id")
            self._sessions_path = listed if isinstance(listed, str) else _SESSIONS
            return root
        answer = exchange.get(path, self._headers(exchange))
        if answer.status == 401 and self._token:  # the session has expired, or the controller was restarted
            self._token = self._session = ""
            answer = exchange.get(path, self._headers(exchange))
        if answer.status in (401, 403):
            raise self._pause_after_refusal()
        if answer.status == 404:
            return None
        return document_of(exchange, self._check_busy(answer))

    def close(self) -> None:
        """End the session, if the service allows it; may be called twice."""
        if self._token and self._session:
            with (
                suppress(ReadFailed),
                Exchange(self._endpoint, min(_LOGOUT_SECONDS, self._timeout_seconds)) as exchange,
            ):
                exchange.send("DELETE", self._session, None, {"X-Auth-Token": self._token})
        self._token = self._session = ""

    def _headers(self, exchange: Exchange) -> dict[str, str]:
        if self._credentials is None:
            return {}
        if self._sessions and not self._token:
            self._login(exchange, *self._credentials)
        return {"X-Auth-Token": self._token} if self._token else basic_header(*self._credentials)

    def _login(self, exchange: Exchange, name: str, secret: str) -> None:
        answer = self._check_busy(
            exchange.send("POST", self._sessions_path, {"UserName": name, "Password": secret})
        )
        if answer.status in (400, 401, 403):
            raise self._pause_after_refusal()
        self._token = answer.headers.get("X-Auth-Token", "")
        self._session = urlsplit(answer.headers.get("Location", "")).path
        self._sessions = bool(self._token)  # no token: Basic authentication from now on

    def _pause_after_refusal(self) -> ReadFailed:
        why = explain_refusal(self._endpoint, credentials=self._credentials is not None)
        self._pause(
            _REFUSED_SECONDS, f"{why}: not tried again for 5 minutes, so that the account is not locked"
        )
        return ReadFailed(why)

    def _check_busy(self, answer: Answer) -> Answer:
        if answer.status in (429, 503):
            asked = answer.headers.get("Retry-After", "").strip()
            seconds = (
                int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else _USUAL_RETRY_SECONDS
            )
            why = f"{self._endpoint} is busy (HTTP status {answer.status})"
            self._pause(min(seconds, _LONGEST_RETRY_SECONDS), f"{why} and asked for a pause")
            raise ReadFailed(why)
        return answer

    def _pause(self, seconds: float, why: str) -> None:
        self._not_before, self._why_not = time.monotonic() + seconds, why


Fetch = Callable[[str], "dict[str, Any] | None"]

MOST_CHASSIS: Final = 64
MOST_PAGES: Final = 8
MOST_SUPPLIES: Final = 16
_NOT_THERE: Final = frozenset({"Absent", "Disabled", "UnavailableOffline"})
_WHOLE_CONTEXTS: Final = frozenset({None, "Chassis", "Intake", "PowerSupply", "PowerSubsystem"})
"""PhysicalContext of a PowerControl that can be the whole; any other names a part: CPU, Memory, GPU, …"""


class Way(Enum):
    """Resource that holds the power, best first."""

    ENVIRONMENT = "EnvironmentMetrics"
    POWER = "Power"
    SUPPLIES = "PowerSubsystem"


class Chosen(NamedTuple):
    """One chassis, and how its power is read."""

    identifier: str
    way: Way
    paths: tuple[str, ...]
    """Path of one resource, or of the metrics of each power supply."""
    controls: tuple[str, ...] = ()
    """MemberId of the PowerControl entries that are summed."""


class _Chassis(NamedTuple):
    path: str
    identifier: str
    document: dict[str, Any]
    inside_of: str | None
    systems: frozenset[str]


def choose(fetch: Fetch, wanted: str, controls: str, *, one_machine: bool) -> tuple[Chosen, ...]:
    """Choose the chassis to read.

    `wanted` and `controls` are names with commas, empty = search; with `one_machine` several machines are
    refused. Several chassis may show power without being one inside the other. Then the one that holds a
    system is the machine's: boards, supplies and accelerators are listed as chassis too. Raises
    SourceUnavailable with the names to choose from, or ReadFailed.
    """
    known = _all_chassis(fetch)
    if wanted:
        taken = _find_named(known, wanted)
        found = [(one, _way(fetch, one, controls)) for one in taken]
        if lacking := [one.identifier for one, way in found if way is None]:
            raise SourceUnavailable(
                "no_device", f"chassis {lacking[0]} shows no power", "choose another chassis"
            )
    else:
        tops = [one for one in known.values() if one.inside_of is None]
        found = [pair for top in tops for pair in _outermost(fetch, known, top, controls)]
        if not found:
            raise SourceUnavailable("no_device", "the service shows power for no chassis")
        if len(found) > 1:
            found = [pair for pair in found if pair[0].systems] or found
        if len(found) > 1:
            names = ", ".join(one.identifier for one, _ in found)
            raise SourceUnavailable(
                "no_device",
                f"several chassis show power, and the service does not show how they relate: {names}",
                "set chassis to the right one, or to the separate ones, with commas",
            )
        systems = _systems_below(known, found[0][0])
        if one_machine and len(systems) > 1:
            raise SourceUnavailable(
                "no_device",
                f"chassis {found[0][0].identifier} holds {len(systems)} machines",
                "set chassis to this machine's own, or make it a meter with shares",
            )
    return tuple(way for _, way in found if way is not None)


def read_power(fetch: Fetch, chosen: Iterable[Chosen]) -> tuple[Decimal | None, Decimal | None]:
    """Return (power in W, energy in kWh) of all chosen chassis together; None when one of them does not
    report it.

    Raises ReadFailed.
    """
    powers, energies = zip(*(_read_one(fetch, one) for one in chosen), strict=True)
    return _sum(powers), _sum(energies)


# ------------------------------------------------------------------------------------------ chassis


def _all_chassis(fetch: Fetch) -> dict[str, _Chassis]:
    root = fetch(ROOT)
    page = _link(root, "Chassis")
    known: dict[str, _Chassis] = {}
    for _ in range(MOST_PAGES):
        if page is None:
            break
        collection = fetch(page)
        for path in _links(inside(collection, "Members")):
            if len(known) >= MOST_CHASSIS:
                raise SourceUnavailable("no_device", f"the service lists more than {MOST_CHASSIS} chassis")
            document = fetch(path)
            if document is not None:
                known[path] = _Chassis(
                    path,
                    fact_text(str(document.get("Id") or path.rsplit("/", 1)[-1])) or "chassis",
                    document,
                    _link(document, "Links", "ContainedBy"),
                    frozenset(_links(inside(document, "Links", "ComputerSystems"))),
                )
        page = _path(inside(collection, "Members@odata.nextLink"))
    if not known:
        raise SourceUnavailable("no_device", "the service lists no chassis", "is it a Redfish service?")
    return {
        path: one._replace(inside_of=one.inside_of if one.inside_of in known else None)
        for path, one in known.items()
    }


def _find_named(known: dict[str, _Chassis], wanted: str) -> list[_Chassis]:
    taken: list[_Chassis] = []
    for name in dict.fromkeys(part.strip() for part in wanted.split(",") if part.strip()):
        match = [one for one in known.values() if name in (one.identifier, one.path.rsplit("/", 1)[-1])]
        if len(match) != 1:
            names = ", ".join(one.identifier for one in known.values())
            raise SourceUnavailable("no_device", f"there is no chassis '{name}'", f"choose among {names}")
        taken += match
    for one in taken:
        if outer := next((other for other in taken if other.path in _containers(known, one)), None):
            raise SourceUnavailable(
                "no_device",
                f"chassis {one.identifier} lies inside {outer.identifier}: its power would count twice",
                "name only one of them in chassis",
            )
    return taken


def _containers(known: dict[str, _Chassis], one: _Chassis) -> set[str]:
    above: set[str] = set()
    path = one.inside_of
    while path is not None and path not in above:  # stops at a circle of wrong links
        above.add(path)
        path = known[path].inside_of if path in known else None
    return above


def _outermost(
    fetch: Fetch, known: dict[str, _Chassis], top: _Chassis, controls: str, depth: int = 0
) -> list[tuple[_Chassis, Chosen | None]]:
    """Return the chassis itself when it shows power, else the inner ones that do.

    The power of the inner ones is part of the outer one's figure.
    """
    if (way := _way(fetch, top, controls)) is not None:
        return [(top, way)]
    if depth >= MOST_PAGES:
        return []
    inner = [one for one in known.values() if one.inside_of == top.path]
    return [pair for one in inner for pair in _outermost(fetch, known, one, controls, depth + 1)]


def _systems_below(known: dict[str, _Chassis], one: _Chassis) -> frozenset[str]:
    below = [other for other in known.values() if one.path in _containers(known, other)]
    return one.systems.union(*(other.systems for other in below))


# --------------------------------------------------------------------------------------------- ways


def _way(fetch: Fetch, chassis: _Chassis, controls: str) -> Chosen | None:
    """Return the first way with a power value now, else the last one that may have a value.

    EnergykWh alone is used only when there is no other way.
    """
    offered: list[Chosen] = []
    environment = _link(chassis.document, "EnvironmentMetrics")
    metrics = fetch(environment) if environment else None
    if environment and metrics is not None and isinstance(metrics.get("PowerWatts"), dict):
        offered.append(Chosen(chassis.identifier, Way.ENVIRONMENT, (environment,)))
        if inside(metrics, "PowerWatts", "Reading") is not None:
            return offered[0]
    power = _link(chassis.document, "Power")
    if power and (members := _controls(fetch(power), chassis, controls)):
        offered.append(Chosen(chassis.identifier, Way.POWER, (power,), members))
    elif supplies := _supplies(fetch, chassis):
        offered.append(Chosen(chassis.identifier, Way.SUPPLIES, supplies))
    if not offered and environment and isinstance(inside(metrics, "EnergykWh"), dict):
        offered.append(Chosen(chassis.identifier, Way.ENVIRONMENT, (environment,)))
    return offered[-1] if offered else None


def _controls(power: dict[str, Any] | None, chassis: _Chassis, wanted: str) -> tuple[str, ...]:
    """Return the MemberIds of the PowerControl entries whose sum is the chassis.

    Raises SourceUnavailable when the service does not show which entries to sum.
    """
    entries = {
        str(entry.get("MemberId", position)): entry
        for position, entry in enumerate(inside(power, "PowerControl") or ())
        if isinstance(entry, dict)
        and "PowerConsumedWatts" in entry
        and inside(entry, "Status", "State") not in _NOT_THERE
    }
    if wanted:
        named = tuple(dict.fromkeys(part.strip() for part in wanted.split(",") if part.strip()))
        if not set(named) <= set(entries):
            known = ", ".join(fact_text(member) or "?" for member in entries)
            raise SourceUnavailable(
                "no_device", f"there is no such PowerControl: {wanted}", f"choose among {known}"
            )
        return named
    whole = {k: entry for k, entry in entries.items() if entry.get("PhysicalContext") in _WHOLE_CONTEXTS}
    whole = whole or entries
    if len(whole) <= 1:
        return tuple(whole)
    related = {member: set(_links(entry.get("RelatedItem"))) for member, entry in whole.items()}
    own = [member for member, items in related.items() if chassis.path in items]
    if len(own) == 1:
        return (own[0],)
    if not own and _are_separate(list(related.values())):
        return tuple(whole)
    raise SourceUnavailable(
        "no_device",
        f"chassis {chassis.identifier} has {len(whole)} PowerControl entries,"
        " and the service does not show how they relate",
        "set power_control to the MemberId of the whole, usually 0",
    )


def _are_separate(related: list[set[str]]) -> bool:
    """Tell whether the entries' members are all of one collection, and no two entries share a member."""
    every = [item for items in related for item in items]
    parents = {item.rsplit("/", 1)[0] for item in every}
    return (
        all(related) and len(every) == len(set(every)) and len(parents) == 1 and parents <= _WHOLE_COLLECTIONS
    )


_WHOLE_COLLECTIONS: Final = frozenset({"/redfish/v1/Systems", "/redfish/v1/Chassis"})


def _supplies(fetch: Fetch, chassis: _Chassis) -> tuple[str, ...]:
    """Return the metrics of each installed power supply: their inputs sum to the chassis's power."""
    subsystem = _link(chassis.document, "PowerSubsystem")
    collection = _link(fetch(subsystem), "PowerSupplies") if subsystem else None
    paths = _links(inside(fetch(collection), "Members")) if collection else []
    found: list[str] = []
    for path in paths[:MOST_SUPPLIES]:
        supply = fetch(path)
        if supply is None or inside(supply, "Status", "State") in _NOT_THERE:
            continue
        metrics = _link(supply, "Metrics")
        if metrics is None or not isinstance(inside(fetch(metrics), "InputPowerWatts"), dict):
            return ()  # without its value the sum would be too small
        found.append(metrics)
    return tuple(found) if len(paths) <= MOST_SUPPLIES else ()


# ------------------------------------------------------------------------------------------ figures


def _read_one(fetch: Fetch, chosen: Chosen) -> tuple[Decimal | None, Decimal | None]:
    documents = [fetch(path) for path in chosen.paths]
    if None in documents:
        raise ReadFailed(f"chassis {chosen.identifier} has lost its {chosen.way.value}")
    if chosen.way is Way.ENVIRONMENT:
        power = number(inside(documents[0], "PowerWatts", "Reading"), "PowerWatts")
        return power, number(inside(documents[0], "EnergykWh", "Reading"), "EnergykWh")
    if chosen.way is Way.SUPPLIES:
        inputs = [number(inside(one, "InputPowerWatts", "Reading"), "InputPowerWatts") for one in documents]
        return _sum(inputs), None
    entries = inside(documents[0], "PowerControl") or ()
    by_member = {
        str(entry.get("MemberId", position)): entry
        for position, entry in enumerate(entries)
        if isinstance(entry, dict)
    }
    consumed = [
        number(inside(by_member.get(member), "PowerConsumedWatts"), "PowerConsumedWatts")
        for member in chosen.controls
    ]
    return _sum(consumed), None


def _sum(values: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum; None when one value is missing: a part is not the whole."""
    every = list(values)
    known = [value for value in every if value is not None]
    return sum(known, Decimal(0)) if known and len(known) == len(every) else None


def _link(document: Any, *keys: str) -> str | None:
    return _path(inside(document, *keys, "@odata.id"))


def _links(references: Any) -> list[str]:
    found = [_link(one) for one in references] if isinstance(references, list) else []
    return list(dict.fromkeys(path for path in found if path))


def _path(value: Any) -> str | None:
    """Return a path inside the service, without fragment and final slash; None for anything else."""
    if not isinstance(value, str) or not value.startswith("/redfish/"):
        return None
    return value.partition("#")[0].rstrip("/")
