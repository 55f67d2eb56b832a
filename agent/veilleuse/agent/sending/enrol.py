# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Composition root of enrolment: join file or original, keys, channel, spool. docs/wire.md §6 and §7.

`enrol` serves the command. `enrol_unattended` serves a sender without identity. Such a machine has a join
file, or can prove that it is a clone of an enrolled machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

from veilleuse.agent.errors import AgentError, IdentityError, NotAdmitted, NotEnrolled, RequestRefused
from veilleuse.agent.host.facts import own_facts
from veilleuse.agent.host.hardware_ids import (
    MACHINE_ID,
    Roots,
    asset_numbers,
    hardware_ids,
    require_machine_id,
)
from veilleuse.agent.identity import certificates, keys
from veilleuse.agent.identity.clone import CloneDetector
from veilleuse.agent.identity.join_file import JoinFile, fingerprints, read_join_file
from veilleuse.agent.identity.reset import reset_before_enrolment
from veilleuse.agent.identity.store import Identity, IdentityStore, Placement, as_owner_of
from veilleuse.agent.platforms import here
from veilleuse.agent.platforms.locks import SEND_LOCK, ProcessLock
from veilleuse.agent.sending.client import EnrolmentCalls, open_channel
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.routes import Route, first_that_answers, routes_to
from veilleuse.agent.settings import AgentSettings, join_file_path
from veilleuse.agent.spool.database import FILE_NAME, connect
from veilleuse.agent.spool.outbox import Outbox, Ring, adopt_identity
from veilleuse.wire.pseudonym import pseudonym
from veilleuse.wire.v1 import telemetry_pb2 as pb

log = logging.getLogger(__name__)


def enrol(settings: AgentSettings, join_file: Path, keep: bool = False) -> Identity:
    """Enrol with a join file, which is then deleted unless `keep`, if its directory permits.

    Raises IdentityError, CollectorAway.
    """
    require_machine_id(MACHINE_ID)
    join = check_join_file(settings, join_file)
    with (
        as_owner_of(settings.paths.state),
        ProcessLock(settings.paths.state, SEND_LOCK, what="veilleuse-agent send"),
    ):
        reset_before_enrolment(settings)
        _keep_hardware(settings)
        identity = _with_join_file(settings, join)
        try:
            _start_stream(settings, identity)
        except AgentError as error:  # the token is used up: the first contact completes the rest
            log.warning("enrolled, the first contact does the rest", extra={"reason": str(error)})
    if not keep:
        _delete(join_file)
    return identity


def enrol_unattended(settings: AgentSettings) -> Identity:
    """Get the first identity of a machine that has a join file or is a clone.

    The caller holds the sender's lock. Raises NotEnrolled when it is neither, NotAdmitted when the collector
    refused, CollectorAway, IdentityError.
    """
    path, original = join_file_path(settings), CloneDetector(settings.paths.state).original()
    _keep_hardware(settings)
    if path.exists():
        try:
            identity = _translate_refusal(lambda: _with_join_file(settings, check_join_file(settings, path)))
        except IdentityError as error:
            if original is None:
                raise
            log.warning("not enrolled with the join file, as a copy then", extra={"reason": str(error)})
        else:
            _delete(path)
            return identity
    if original is None:
        raise NotEnrolled(
            f"this machine is not enrolled (no join file at {path}): `veilleuse-agent enrol JOINFILE`"
        )
    return _translate_refusal(lambda: _as_clone(settings, original))


def check_join_file(settings: AgentSettings, path: Path) -> JoinFile:
    """Read the join file at `path` and check it against the settings. Raises IdentityError.

    Its CA must be among the pinned ones and its entity the required one, where these are set.
    """
    join = read_join_file(path)
    pinned = fingerprints(settings.collector.ca_sha256)
    if pinned and join.ca_sha256 not in pinned:
        raise IdentityError(
            f"wrong fingerprint: the CA of {path} is {join.ca_sha256}, collector.ca_sha256 asks for "
            f"{', '.join(sorted(pinned))}; make a join file on the right collector, or correct the "
            "configuration"
        )
    wanted = settings.collector.entity
    if wanted and join.org_entity and join.org_entity != wanted:
        raise IdentityError(
            f"wrong entity: {path} enrols machines of {join.org_entity}, and collector.entity says {wanted}; "
            "use the join file of that entity, or correct the configuration"
        )
    if join.readable_by_others:
        log.warning("the join file can be read by others", extra={"remedy": "chmod 600", "file": str(path)})
    return join


def introduce(
    settings: AgentSettings, token: str, fleet_key: bytes, roots: Roots
) -> certificates.Introduction:
    """Collect the data that this machine sends when it enrols, as far as the local configuration allows.

    Pseudonyms need a fleet key.
    """
    told = settings.privacy.send_asset_pseudonyms and fleet_key
    serial, uuid = asset_numbers(roots) if told else (None, None)
    named = settings.privacy.send_host_name and settings.measure.population == "server"
    return certificates.Introduction(
        token=token,
        facts=own_facts(settings),
        chassis_pseudonym=pseudonym(fleet_key, serial) if serial else b"",
        smbios_pseudonym=pseudonym(fleet_key, uuid) if uuid else b"",
        host_name=here.host_name() if named else "",
    )


# --------------------------------------------------------------- with a join file, or as a clone


def _with_join_file(settings: AgentSettings, join: JoinFile) -> Identity:
    roots = Roots(settings.paths.sysfs, MACHINE_ID)
    introduction = introduce(settings, join.token, join.fleet_key, roots)
    addresses = settings.collector.enrolment_address or join.enrolment_address
    pinned = fingerprints(settings.collector.ca_sha256)

    def place_of(placement: pb.Placement) -> Placement:
        return _place(placement, join.address, join.enrolment_address, pinned=bool(pinned))

    trust = certificates.Trust(join.ca_pem, pinned)
    return _request_identity(settings, addresses, introduction, place_of, trust)


def _as_clone(settings: AgentSettings, original: Identity) -> Identity:
    """Enrol at the original's collector: no token, no fleet key; the original's key proves the cloning."""
    introduction = introduce(settings, "", b"", Roots(settings.paths.sysfs, MACHINE_ID))
    known = original.place
    addresses = settings.collector.enrolment_address or known.enrolment_address

    def place_of(placement: pb.Placement) -> Placement:
        return _place(placement, known.address, known.enrolment_address, pinned=known.ca_pinned)

    trust = certificates.Trust(original.roots_pem, fingerprints(settings.collector.ca_sha256))
    return _request_identity(settings, addresses, introduction, place_of, trust, original)


def _request_identity(
    settings: AgentSettings,
    addresses: str,
    introduction: certificates.Introduction,
    place_of: Callable[[pb.Placement], Placement],
    trust: certificates.Trust,
    original: Identity | None = None,
) -> Identity:
    store = IdentityStore(settings.paths.state)

    def attempt(route: Route) -> Identity:
        with open_channel(route, None, trust.roots_pem) as channel:
            api = EnrolmentCalls(channel, route, settings.collector.deadline_seconds)
            return certificates.enrol(
                api, cast("certificates.Keys", keys), store, introduction, place_of, trust, original
            )

    identity = first_that_answers(routes_to(settings.collector, addresses), attempt)
    log.info("enrolled", extra={"as": "copy" if original is not None else "new"})
    CloneDetector(settings.paths.state).drop_original()
    return identity


def _translate_refusal(ask: Callable[[], Identity]) -> Identity:
    """Turn a final refusal of the collector into NotAdmitted, with the remedy."""
    try:
        return ask()
    except (IdentityError, RequestRefused) as error:
        raise NotAdmitted(
            f"{error}; make a join file on the collector: `veilleuse token create`, then `veilleuse-agent "
            "enrol JOINFILE`"
        ) from error


def _place(placement: pb.Placement, address: str, enrolment_address: str, *, pinned: bool) -> Placement:
    return Placement(
        address=address,
        enrolment_address=enrolment_address,
        org_entity=placement.org_entity,
        site=placement.site,
        population=certificates.population_word(placement.population),
        ca_pinned=pinned,
    )


def _keep_hardware(settings: AgentSettings) -> None:
    """Store the hardware ids before the key of the request exists.

    A clone made in between must not share the key.
    """
    CloneDetector(settings.paths.state).keep(hardware_ids(Roots(settings.paths.sysfs, MACHINE_ID)))


def _delete(join_file: Path) -> None:
    try:
        join_file.unlink(missing_ok=True)
    except OSError as error:
        log.warning(
            "enrolled, but the join file is still there: delete it",
            extra={"file": str(join_file), "reason": error.strerror},
        )


def _start_stream(settings: AgentSettings, identity: Identity) -> None:
    path = settings.paths.state / FILE_NAME
    with closing(connect(path)) as connection:
        outbox = Outbox(connection, path, WireEncoder(), Ring())
        adopt_identity(outbox, identity.agent_id, identity.place.population)
