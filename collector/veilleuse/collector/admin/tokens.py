# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Creates, lists and revokes tokens, and makes their join files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.admin.hosts import ALLOWED_FROM, set_status
from veilleuse.collector.admin.sites import ensure_site
from veilleuse.collector.enrolment.register import TOKEN, TOKEN_REVOKED, RegisterEntry
from veilleuse.collector.enrolment.register_replay import token_facts
from veilleuse.collector.enrolment.tokens import TokenOrder, checked_name, new_token, token_sha256
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.hosts import Host, HostStatus, Site
from veilleuse.wire.values import WILDCARDS, is_loopback, split_address, split_addresses
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

JOIN_FILE_VERSION: Final = 1


def create(
    context: AdminContext,
    *,
    org_entity: str,
    site: str,
    population: str,
    uses: int = 1,
    hours: float = 24,
    networks: tuple[str, ...] | list[str] = (),
    approve: bool = False,
    admit_copies: bool = False,
    zone: str | None = None,
    time_zone: str | None = None,
) -> dict[str, Any]:
    """Create a token and the content of its join file; an unknown site gets the default timetable.

    `notes` tells in words what a slip of the keyboard makes: a new site, a new entity, a collector that only
    its own machine reaches.
    """
    org_entity, site = checked_name("entity", org_entity), checked_name("site", site)
    order = TokenOrder(
        org_entity, site, Population(population), uses, hours, tuple(networks), approve, admit_copies
    )
    join = _join_file(context, order)
    token = new_token()
    now = context.issuing.now_unix_milliseconds()

    def job(note: RegisterEntry) -> tuple[int, list[str]]:
        notes = _note_new(context, order, ensure_site(context, site, zone, time_zone, note))
        token_id = _insert(context, order, token, now)
        made = context.issuing.registry.token_by_hash(token_sha256(token))
        if made is not None:
            note(TOKEN, **token_facts(made))
        return token_id, notes

    token_id, notes = context.issuing.commit_with_register(job)
    log.info("token created", extra={"token_id": token_id, "org_entity": org_entity, "site": site})
    return {
        "token_id": token_id,
        "expires_unix_milliseconds": order.expires_unix_milliseconds(now),
        "join": {**join, "token": token, "fleet_key": context.fleet_key},
        "notes": notes + _note_unreachable(join["address"]),
    }


def _insert(context: AdminContext, order: TokenOrder, token: str, now: int) -> int:
    return context.issuing.registry.insert_token(
        token_sha256=token_sha256(token),
        created_unix_milliseconds=now,
        expires_unix_milliseconds=order.expires_unix_milliseconds(now),
        max_uses=order.uses,
        networks=order.networks,
        org_entity=order.org_entity,
        site=order.site,
        population=order.population,
        approve=order.approve,
        admit_copies=order.admit_copies,
    )


def _note_new(context: AdminContext, order: TokenOrder, made: Site | None) -> list[str]:
    """Note an entity that no token and no machine has, and a site that was `made`."""
    registry, entity = context.issuing.registry, order.org_entity
    known = {one.org_entity for one in registry.tokens()} | {one.org_entity for one in registry.hosts()}
    notes = [] if entity in known else [f"'{entity}' is a new entity"]
    if made is not None:
        notes.append(f"'{made.site}' is a new site, in zone {made.zone} and {made.time_zone} time")
    return notes


def _note_unreachable(address: str) -> list[str]:
    if not is_loopback(split_address(address)[0]):
        return []
    return [f"only this machine reaches {address}: other machines need grpc.advertised_address"]


def list_all(context: AdminContext) -> list[dict[str, Any]]:
    """List all tokens, oldest first, without their text."""
    registry, now = context.issuing.registry, context.issuing.now_unix_milliseconds()
    return [
        {
            "token_id": token.token_id,
            "org_entity": token.org_entity,
            "site": token.site,
            "population": token.population.value,
            "uses": token.uses,
            "max_uses": token.max_uses,
            "networks": list(token.networks),
            "approve": token.approve,
            "admit_copies": token.admit_copies,
            "revoked": token.revoked,
            "expired": now >= token.expires_unix_milliseconds,
            "created_unix_milliseconds": token.created_unix_milliseconds,
            "expires_unix_milliseconds": token.expires_unix_milliseconds,
        }
        for token in context.issuing.commit(registry.tokens)
    ]


def revoke(context: AdminContext, *, token_id: int, keep_hosts: bool = False) -> dict[str, Any]:
    """End a token at once and, unless `keep_hosts`, every machine that enrolled with it."""
    registry = context.issuing.registry

    def job(note: RegisterEntry) -> list[Host]:
        if not registry.revoke_token(token_id):
            raise AdminError(f"no token {token_id}: see 'veilleuse token list'")
        note(TOKEN_REVOKED, sha256=_token_sha256(context, token_id).hex())
        hosts = (
            [] if keep_hosts else [registry.host(host_id) for host_id in registry.hosts_of_token(token_id)]
        )
        ended = [
            host for host in hosts if host is not None and host.status in ALLOWED_FROM[HostStatus.REVOKED]
        ]
        set_status(context, ended, HostStatus.REVOKED, note)
        return ended

    ended = context.issuing.commit_with_register(job)
    log.info("token revoked", extra={"token_id": token_id, "hosts": len(ended)})
    return {"token_id": token_id, "hosts_revoked": len(ended)}


def _token_sha256(context: AdminContext, token_id: int) -> bytes:
    (sha256,) = [
        token.token_sha256 for token in context.issuing.registry.tokens() if token.token_id == token_id
    ]
    return sha256


def _join_file(context: AdminContext, order: TokenOrder) -> dict[str, Any]:
    """Make the join file without its secrets. Raises UsageError when no agent could use its addresses."""
    addresses = context.process.addresses
    names = context.settings.pki.server_names
    authority = context.issuing.authority
    return {
        "version": JOIN_FILE_VERSION,
        **_join_file_addresses("address", "addresses", addresses.telemetry, names),
        **_join_file_addresses("enrolment_address", "enrolment_addresses", addresses.enrolment, names),
        "ca_pem": authority.root_pem.decode(),
        "ca_sha256": authority.root_sha256,
        "org_entity": order.org_entity,
        "site": order.site,
        "population": order.population.value,
    }


def _join_file_addresses(
    first: str, every: str, addresses: str, server_names: Sequence[str]
) -> dict[str, str | list[str]]:
    """Return the keys of comma-separated addresses. Agents of 0.2 know the first one only."""
    usable = split_addresses(addresses)
    for address in usable:
        _require_usable(first, address, server_names)
    return {first: usable[0]} if len(usable) == 1 else {first: usable[0], every: usable}


def _require_usable(word: str, address: str, server_names: Sequence[str]) -> None:
    """Raise UsageError when agents cannot connect to this address, or cannot trust the certificate there."""
    host, _ = split_address(address)
    if host in WILDCARDS:
        raise UsageError(
            f"agents cannot connect to {address}: set grpc.advertised_{word} to a name of this collector"
        )
    if not {host.lower(), "*." + host.lower().partition(".")[2]} & {name.lower() for name in server_names}:
        raise UsageError(
            f"the collector's certificate is not for {host}: add it to pki.server_names and start the "
            f"collector again, or set grpc.advertised_{word} to one of {', '.join(server_names)}"
        )
