# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tells which entities and sites a reader may know of, from the inventory and the servers.

Of PCs with an agent, only administrators see the places: others would read when one is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.query import is_within
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.web.pages.frame import Look
from veilleuse.wire.vocabulary import Population


@dataclass(frozen=True, slots=True)
class Places:
    """Entities, and (entity, site) of each place with devices."""

    entities: frozenset[str]
    sites: frozenset[tuple[str, str]]


def places_of(store: ReadStore, look: Look) -> Places:
    """Return the places that the reader may know of."""
    named = {one.name for one in store.inventory.entities()}
    hosts = store.data.hosts(None if look.is_admin else Population.SERVER)
    pairs = {(one.org_entity, one.site) for one in hosts if one.status is not HostStatus.REVOKED}
    pairs |= {(one.entity, one.site) for one in store.inventory.devices(look.today, look.today) if one.site}
    entities = look.account.entities
    return Places(
        frozenset(one for one in (*named, *(entity for entity, _ in pairs)) if is_within(one, entities)),
        frozenset(pair for pair in pairs if is_within(pair[0], entities)),
    )
