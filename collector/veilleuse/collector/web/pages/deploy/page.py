# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page that says how to install agents, and what a new collector still lacks.

It makes no token and changes nothing: it writes the commands that do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.enrolment.tokens import MAX_DAYS, MAX_USES, TokenOrder, checked_name
from veilleuse.collector.errors import UsageError
from veilleuse.collector.logs import product_version
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.web.pages.deploy.checklist import CheckItem, checklist
from veilleuse.collector.web.pages.deploy.commands import (
    MACOS,
    SYSTEMS,
    DeployStep,
    machine_steps,
    token_command,
)
from veilleuse.collector.web.pages.entities.places import places_of
from veilleuse.collector.web.pages.frame import Look
from veilleuse.wire.vocabulary import Population

PATH: Final = "/deployer"
_HOURS: Final = 72
_POPULATIONS: Final = tuple(
    one.value for one in (Population.WORKSTATION, Population.CLASSROOM, Population.SERVER)
)


@dataclass(frozen=True, slots=True)
class DeployPage:
    """Values of the template."""

    entities: tuple[str, ...]
    sites: tuple[str, ...]
    chosen: Mapping[str, str]
    """Parameter → value, as the form shows them."""
    error: str
    """Why no command is written; empty without a reason."""
    notes: tuple[str, ...]
    token: str
    """Command for the collector; empty before the form is filled in."""
    steps: tuple[DeployStep, ...]
    items: tuple[CheckItem, ...]
    is_new: bool
    """True where no machine is enrolled: what the collector lacks then comes first."""


async def deploy(look: Look) -> Mapping[str, object]:
    """Build the page."""
    chosen = {
        "entity": look.parameter("entity"),
        "site": look.parameter("site"),
        "population": look.choice("population", _POPULATIONS),
        "system": look.choice("system", SYSTEMS),
        "uses": str(look.whole_number("uses", 1, 1, MAX_USES)),
        "hours": str(look.whole_number("hours", _HOURS, 1, MAX_DAYS * 24)),
    }
    page = await look.read(lambda store: _page(store, look, chosen))
    return {"page": page, "systems": SYSTEMS, "populations": _POPULATIONS, "most_hours": MAX_DAYS * 24}


def _page(store: ReadStore, look: Look, chosen: Mapping[str, str]) -> DeployPage:
    places, sites = places_of(store, look), {one.site for one in store.data.sites()}
    order, error = _order(look, chosen)
    steps = () if order is None else machine_steps(chosen["system"], order.population, product_version())
    items = checklist(store, look)
    return DeployPage(
        tuple(sorted(places.entities)),
        tuple(sorted(sites | {site for _, site in places.sites})),
        chosen,
        error,
        tuple(_notes(look, chosen, places.entities, sites)) if order else (),
        "" if order is None else token_command(order),
        steps,
        items,
        not any(one.key == "machine" and one.is_done for one in items),
    )


def _order(look: Look, chosen: Mapping[str, str]) -> tuple[TokenOrder | None, str]:
    """Return what the form asks for, or why it asks for nothing."""
    if not chosen["entity"] or not chosen["site"]:
        return None, look.w("deploy.incomplete") if chosen["entity"] or chosen["site"] else ""
    try:
        entity, site = (checked_name(word, chosen[word]) for word in ("entity", "site"))
    except UsageError:
        return None, look.w("deploy.wrong_name")
    population = Population(chosen["population"])
    return TokenOrder(entity, site, population, int(chosen["uses"]), int(chosen["hours"])), ""


def _notes(look: Look, chosen: Mapping[str, str], entities: frozenset[str], sites: set[str]) -> Iterator[str]:
    w, reporting = look.w, look.settings.reporting
    if chosen["entity"] not in entities:
        yield w("deploy.new_entity", entity=chosen["entity"])
    if chosen["site"] not in sites:
        yield w("deploy.new_site", site=chosen["site"], zone=reporting.zone, time_zone=reporting.time_zone)
    yield w(f"deploy.note_{chosen['population']}")
    if chosen["system"] == MACOS:
        yield w("deploy.no_mac")
