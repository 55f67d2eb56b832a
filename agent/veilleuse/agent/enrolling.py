# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Composition root of `veilleuse-agent enrol`: join file, keys, channel and spool make an identity. PROMISES.md §2.6."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from pathlib import Path
from typing import cast

from veilleuse.agent import enrolment, keys
from veilleuse.agent.encode import WireEncoder
from veilleuse.agent.errors import AgentError, IdentityError
from veilleuse.agent.facts import MACHINE_ID, Roots, asset_numbers, hardware_ids, own_facts
from veilleuse.agent.identity import Identity, IdentityStore, Place, as_owner_of, require_machine_id
from veilleuse.agent.joinfile import fingerprint, read_join_file
from veilleuse.agent.locks import SEND_LOCK, ProcessLock
from veilleuse.agent.outbox import Outbox, Ring, adopt_identity
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.spool import FILE_NAME, connect
from veilleuse.agent.transport import EnrolmentCalls, open_channel
from veilleuse.wire.pseudonym import pseudonym
from veilleuse.wire.v1 import telemetry_pb2 as pb

log = logging.getLogger(__name__)


def enrol(settings: AgentSettings, join_file: Path, keep: bool = False) -> Identity:
    """Enrol with a join file, which is deleted afterwards unless `keep`, as far as its folder allows.

    Raises IdentityError, CollectorAway.
    """
    require_machine_id(MACHINE_ID)
    join = read_join_file(join_file)
    pinned = fingerprint(settings.collector.ca_sha256)
    if pinned and pinned != join.ca_sha256:
        raise IdentityError(
            f"wrong fingerprint: the CA of {join_file} is {join.ca_sha256}, collector.ca_sha256 asks for {pinned}; "
            "make a join file on the right collector, or correct the configuration"
        )
    if join.readable_by_others:
        log.warning(
            "the join file can be read by others", extra={"remedy": "chmod 600", "file": str(join_file)}
        )
    roots = Roots(settings.paths.sysfs, MACHINE_ID)
    store = IdentityStore(settings.paths.state)
    introduction = introduce(settings, join.token, join.fleet_key, roots)

    def place_of(placement: pb.Placement) -> Place:
        return Place(
            address=join.address,
            enrolment_address=join.enrolment_address,
            org_entity=placement.org_entity,
            site=placement.site,
            population=enrolment.population_word(placement.population),
            ca_pinned=bool(pinned),
        )

    with (
        as_owner_of(settings.paths.state),
        ProcessLock(settings.paths.state, SEND_LOCK, what="veilleuse-agent send"),
    ):
        address = settings.collector.enrolment_address or join.enrolment_address
        with open_channel(address, None, join.ca_pem) as channel:
            desk = EnrolmentCalls(channel, address, settings.collector.deadline_seconds)
            identity = enrolment.enrol(desk, cast("enrolment.Keys", keys), store, introduction, place_of)
        try:
            store.require_original(hardware_ids(roots))
            _begin_again(settings, identity)
        except AgentError as error:  # the token is used: what is missing is made at the first contact
            log.warning("enrolled, the first contact does the rest", extra={"reason": str(error)})
    if not keep:
        _delete(join_file)
    return identity


def _delete(join_file: Path) -> None:
    try:
        join_file.unlink(missing_ok=True)
    except OSError as error:
        log.warning(
            "enrolled, but the join file is still there: delete it",
            extra={"file": str(join_file), "reason": error.strerror},
        )


def introduce(settings: AgentSettings, token: str, fleet_key: bytes, roots: Roots) -> enrolment.Introduction:
    """What this machine says of itself when it enrols, as far as the local file allows."""
    serial, uuid = asset_numbers(roots) if settings.privacy.send_asset_pseudonyms else (None, None)
    named = settings.privacy.send_host_name and settings.measure.population == "server"
    return enrolment.Introduction(
        token=token,
        facts=own_facts(settings, []),
        chassis_pseudonym=pseudonym(fleet_key, serial) if serial else b"",
        smbios_pseudonym=pseudonym(fleet_key, uuid) if uuid else b"",
        host_name=os.uname().nodename if named else "",
    )


def _begin_again(settings: AgentSettings, identity: Identity) -> None:
    path = settings.paths.state / FILE_NAME
    with closing(connect(path)) as connection:
        outbox = Outbox(connection, path, WireEncoder(), Ring())
        adopt_identity(outbox, identity.agent_id, identity.place.population)
