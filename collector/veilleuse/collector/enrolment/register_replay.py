# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Replays the register into a registry that may have been restored from a backup, and rewrites the register.

It runs at every start and is idempotent: lines that the registry contains already are skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.enrolment.authorise import agent_id_sha256
from veilleuse.collector.enrolment.register import (
    ACCOUNT,
    ACCOUNT_REVOKED,
    ADMITTED,
    EXCLUDED,
    FORGOTTEN,
    HOST,
    NUMBER_NOTE,
    PERMISSIVE,
    SITE,
    TOKEN,
    TOKEN_REVOKED,
    Contents,
    Line,
    Register,
    hash_of,
    known_line,
    read,
)
from veilleuse.collector.errors import StoreFailing
from veilleuse.collector.model.accounts import NAME, Account, Role, day_number
from veilleuse.collector.model.hosts import Host, HostStatus, Site, Token
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.collector.ports.registry import Registry
from veilleuse.wire.bands import Calendar
from veilleuse.wire.limits import AGENT_ID_BYTES
from veilleuse.wire.vocabulary import Population

log = logging.getLogger(__name__)

GROWN: Final = 4
"""The file is rewritten when it has this many times the lines that its content needs."""
SPARE_LINES: Final = 256
SHA256_BYTES: Final = 32
_OF_A_STATUS: Final = (HOST, ADMITTED, EXCLUDED)


@dataclass(slots=True)
class ReplayResult:
    """Result of a replay."""

    hosts: int = 0
    tokens: int = 0
    accounts: int = 0
    revoked: int = 0
    """Machines that were revoked since: nobody sends their later records again."""
    changes: int = 0
    """Approvals, suspensions, activations, revocations, uses of tokens."""
    forgotten: int = 0
    doubtful: int = 0
    """Lines that admit, from jobs that were perhaps undone; they are ignored."""
    unusable: int = 0


def replay(
    path: Path, registry: Registry, transaction: Callable[[], AbstractContextManager[None]]
) -> ReplayResult:
    """Apply new lines to the registry in one transaction; machines to forget get the status FORGOTTEN.

    Call it before the writer starts, or in one of its jobs. Faults of the file are logged, and never raise.
    """
    of, known, line_hash = _known_position(registry)
    try:
        contents = read(path, of)
    except OSError as error:
        log.error(
            "register cannot be read: nobody is let in, and who was put out since a restored backup is not",
            extra={"path": str(path), "error": error.strerror},
        )
        return ReplayResult()
    continued = contents.is_continued(known, line_hash)
    _warn(path, contents, known, continued=continued)
    news = [line for line in contents.lines if line["n"] > known] if continued else contents.lines
    if not news:
        return ReplayResult()
    with transaction():
        done = _Replay(registry, in_order=continued).run(news, contents.done)
        if continued:  # else it is another file: `open_register` rewrites it
            registry.put_meta(NUMBER_NOTE, f"{contents.last}:{hash_of(contents.lines[-1])}")
    log.warning(
        "register replayed: this registry was behind it",
        extra={name: getattr(done, name) for name in ReplayResult.__slots__},
    )
    return done


def open_register(path: Path, registry: Registry) -> Register:
    """Open the register for appending, after `replay`.

    It is rewritten when it is missing, is another file, has grown, or names a forgotten machine. A failure is
    logged, and the next start tries again.
    """
    of, known, line_hash = _known_position(registry)
    try:
        contents = read(path, of)
    except OSError as error:
        trouble = error.strerror or str(error)
        return Register(path, of, known, complete=False, trouble=trouble)  # logged already
    complete = not contents.missing and contents.is_continued(known, line_hash)
    register = Register(path, of, max(known, contents.last), complete=complete)
    forgotten = registry.forgotten()
    names = any(_names_forgotten(line, forgotten) for line in contents.lines)
    needed = len(registry.hosts()) + len(registry.tokens()) + len(registry.sites()) + len(forgotten)
    needed += 2 * len(registry.accounts())
    if not complete or names or len(contents.lines) > GROWN * needed + SPARE_LINES:
        with suppress(StoreFailing):
            rewrite(register, registry)
    return register


def rewrite(register: Register, registry: Registry) -> None:
    """Rewrite the register from the committed registry, outside any transaction. Raises StoreFailing."""
    others = read(register.path, _known_position(registry)[0]).others
    register.rewrite(_all_lines(registry), others)
    registry.put_meta(NUMBER_NOTE, register.note)


def site_facts(site: Site) -> dict[str, Any]:
    """Return the fields of a SITE line."""
    return {
        "site": site.site,
        "zone": site.zone,
        "time_zone": site.time_zone,
        "calendar_json": site.calendar_json,
    }


def token_facts(token: Token) -> dict[str, Any]:
    """Return the fields of a TOKEN line."""
    return {
        "sha256": token.token_sha256.hex(),
        "created": token.created_unix_milliseconds,
        "expires": token.expires_unix_milliseconds,
        "max_uses": token.max_uses,
        "uses": token.uses,
        "networks": list(token.networks),
        "org_entity": token.org_entity,
        "site": token.site,
        "population": token.population.value,
        "approve": token.approve,
        "admit_copies": token.admit_copies,
        "revoked": token.revoked,
    }


def host_facts(host: Host, token: Token, original: Host | None) -> dict[str, Any]:
    """Return the fields of a HOST line. `token` is read after the use by this enrolment, if any."""
    copy = {} if original is None else {"copy_of": original.agent_id.hex()}
    return {
        "agent_id": host.agent_id.hex(),
        "token": token.token_sha256.hex(),
        "uses": token.uses,
        "org_entity": host.org_entity,
        "site": host.site,
        "population": host.population.value,
        "status": host.status.value,
        "day": host.enrolled_on.isoformat(),
        **copy,
    }


def account_facts(account: Account) -> dict[str, Any]:
    """Return the fields of an ACCOUNT line. Of the token only its hash, as it is stored."""
    return {
        "sha256": account.token_sha256.hex(),
        "name": account.name,
        "role": account.role.value,
        "entities": list(account.entities),
        "created": account.created_unix_milliseconds,
        "expires": account.expires_unix_milliseconds,
    }


def _all_lines(registry: Registry) -> Iterator[Line]:
    for site in registry.sites():
        yield {"kind": SITE, **site_facts(site)}
    hosts = {host.host_id: host for host in registry.hosts()}
    tokens = registry.tokens()
    for token in tokens:
        yield {"kind": TOKEN, **token_facts(token)}
    for token in tokens:
        for host_id in registry.hosts_of_token(token.token_id):
            host = hosts[host_id]
            original = hosts.get(host.copy_of) if host.copy_of is not None else None
            if host.status is not HostStatus.FORGOTTEN:
                yield {"kind": HOST, **host_facts(host, token, original)}
    for sha256, day in registry.forgotten().items():
        yield {
            "kind": FORGOTTEN,
            "agent_id_sha256": sha256.hex(),
            "day": date.fromordinal(day).isoformat(),
        }
    for account in registry.accounts():
        yield {"kind": ACCOUNT, **account_facts(account)}
        if account.revoked_unix_milliseconds is not None:
            ended = date.fromordinal(day_number(account.revoked_unix_milliseconds)).isoformat()
            yield {"kind": ACCOUNT_REVOKED, "sha256": account.token_sha256.hex(), "day": ended}


class _Replay:
    """Applies lines once, in the caller's transaction."""

    def __init__(self, registry: Registry, *, in_order: bool) -> None:
        """`in_order`: all lines are newer than the registry.

        Else the last status in the lines counts for each machine, and does not end a suspension.
        """
        self._registry = registry
        self._in_order = in_order
        self._result = ReplayResult()
        self._sites = {site.site for site in registry.sites()}
        self._hosts = {host.agent_id: host for host in registry.hosts()}
        self._forgotten = set(registry.forgotten())

    def run(self, lines: Sequence[Line], done: frozenset[int]) -> ReplayResult:
        steps: dict[str, Callable[[Line], None]] = {
            SITE: self._site,
            TOKEN: self._token,
            TOKEN_REVOKED: self._token_revoked,
            HOST: self._host,
            ADMITTED: self._status,
            EXCLUDED: self._status,
            FORGOTTEN: self._forget,
            ACCOUNT: self._account,
            ACCOUNT_REVOKED: self._account_revoked,
        }
        believed = [line for line in lines if line["kind"] not in PERMISSIVE or line["n"] in done]
        self._result.doubtful = len(lines) - len(believed)
        for line in believed if self._in_order else _with_last_status(believed):
            try:
                steps[line["kind"]](line)
            except (KeyError, ValueError, TypeError, OverflowError):
                self._result.unusable += 1
        return self._result

    def _site(self, line: Line) -> None:
        site = Site(*(str(line[key]) for key in ("site", "zone", "time_zone", "calendar_json")))
        if site.site not in self._sites and Calendar.from_json(site.calendar_json):
            self._registry.put_site(site)
            self._sites.add(site.site)

    def _token(self, line: Line) -> None:
        sha256 = bytes.fromhex(line["sha256"])
        known = self._registry.token_by_hash(sha256)
        if known is None:
            if line["site"] not in self._sites:
                raise ValueError("no such site")
            token_id = self._registry.insert_token(
                token_sha256=sha256,
                created_unix_milliseconds=int(line["created"]),
                expires_unix_milliseconds=int(line["expires"]),
                max_uses=int(line["max_uses"]),
                networks=tuple(map(str, line["networks"])),
                org_entity=str(line["org_entity"]),
                site=str(line["site"]),
                population=Population(line["population"]),
                approve=bool(line["approve"]),
                admit_copies=line.get("admit_copies", False) is True,
            )
            self._result.tokens += 1
        else:
            token_id = known.token_id
        self._registry.raise_token_uses(token_id, int(line["uses"]))
        if line["revoked"]:
            self._registry.revoke_token(token_id)

    def _token_revoked(self, line: Line) -> None:
        token = self._known_token(line["sha256"])
        self._result.changes += not token.revoked
        self._registry.revoke_token(token.token_id)

    def _account(self, line: Line) -> None:
        """Create an account that is absent, unless its name is in force."""
        sha256, name = bytes.fromhex(line["sha256"]), str(line["name"])
        known = self._registry.accounts()
        if any(one.token_sha256 == sha256 for one in known):
            return
        if len(sha256) != SHA256_BYTES or not NAME.fullmatch(name):
            raise ValueError("no account")
        if any(one.name == name and one.revoked_unix_milliseconds is None for one in known):
            raise ValueError("another account has this name")
        self._registry.insert_account(
            name=name,
            role=Role(line["role"]),
            entities=tuple(map(str, line["entities"])),
            token_sha256=sha256,
            created_unix_milliseconds=int(line["created"]),
            expires_unix_milliseconds=int(line["expires"]),
        )
        self._result.accounts += 1

    def _account_revoked(self, line: Line) -> None:
        """Revoke an account; one that is absent stays absent."""
        day = date.fromisoformat(line["day"]).toordinal()
        self._result.changes += self._registry.revoke_account(bytes.fromhex(line["sha256"]), day)

    def _known_token(self, sha256: str) -> Token:
        token = self._registry.token_by_hash(bytes.fromhex(sha256))
        if token is None:
            raise ValueError("no such token")
        return token

    def _host(self, line: Line) -> None:
        agent_id, status = _agent_id(line), HostStatus(line["status"])
        if agent_id_sha256(agent_id) in self._forgotten:
            return
        token = self._known_token(line["token"])
        self._registry.raise_token_uses(token.token_id, int(line["uses"]))
        if agent_id in self._hosts:
            self._set(agent_id, status)
            return
        original = self._hosts.get(AgentId(bytes.fromhex(line.get("copy_of", ""))))
        if line["site"] not in self._sites:
            raise ValueError("no such site")
        host_id = self._registry.insert_host(
            agent_id=agent_id,
            token_id=token.token_id,
            org_entity=str(line["org_entity"]),
            site=str(line["site"]),
            population=Population(line["population"]),
            status=status,
            enrolled_on=date.fromisoformat(line["day"]),
            facts_wire=None,
            copy_of=original.host_id if original else None,
        )
        self._keep(host_id)
        self._result.hosts += 1

    def _status(self, line: Line) -> None:
        agent_id, status = _agent_id(line), HostStatus(line["status"])
        if (line["kind"] == ADMITTED) != (status is HostStatus.ACTIVE):
            raise ValueError("a line that says two things")
        if agent_id in self._hosts:
            self._set(agent_id, status)

    def _set(self, agent_id: AgentId, status: HostStatus) -> None:
        host = self._hosts[agent_id]
        final = (HostStatus.REVOKED, HostStatus.FORGOTTEN)
        lets_in = (HostStatus.PENDING, HostStatus.ACTIVE)
        if not self._in_order and host.status is not HostStatus.PENDING and status in lets_in:
            return
        if host.status is not status and host.status not in final:
            self._registry.set_status(host.host_id, status)
            self._keep(host.host_id)
            self._result.changes += 1
            self._result.revoked += status is HostStatus.REVOKED

    def _forget(self, line: Line) -> None:
        sha256 = bytes.fromhex(line["agent_id_sha256"])
        self._registry.put_forgotten(sha256, date.fromisoformat(line["day"]).toordinal())
        self._forgotten.add(sha256)
        for host in self._hosts.values():
            if agent_id_sha256(host.agent_id) == sha256:
                self._registry.set_status(host.host_id, HostStatus.FORGOTTEN)
                self._keep(host.host_id)
                self._result.forgotten += 1
                return

    def _keep(self, host_id: HostId) -> None:
        host = self._registry.host(host_id)
        if host is not None:
            self._hosts[host.agent_id] = host


def _with_last_status(lines: Sequence[Line]) -> Iterator[Line]:
    """Yield the lines, each with the last status of its machine."""
    told = {str(line.get("agent_id")): line.get("status") for line in lines if line["kind"] in _OF_A_STATUS}
    for line in lines:
        if line["kind"] not in _OF_A_STATUS:
            yield line
            continue
        status = told[str(line.get("agent_id"))]
        kind = HOST if line["kind"] == HOST else ADMITTED if status == HostStatus.ACTIVE else EXCLUDED
        yield {**line, "kind": kind, "status": status}


def _known_position(registry: Registry) -> tuple[int, int, str]:
    """Return (creation time of this data directory, number and hash of the last line in the registry)."""
    kind = registry.data_kind()
    return kind.created_unix_milliseconds, *known_line(kind.extra.get(NUMBER_NOTE, ""))


def _agent_id(line: Line) -> AgentId:
    """Return the agent id of a line. Raises KeyError or ValueError."""
    agent_id = bytes.fromhex(str(line["agent_id"]))
    if len(agent_id) != AGENT_ID_BYTES:
        raise ValueError("no agent id")
    return AgentId(agent_id)


def _names_forgotten(line: Line, forgotten: Container[bytes]) -> bool:
    """Return True when the line contains the id of a forgotten machine."""
    try:
        return agent_id_sha256(_agent_id(line)) in forgotten
    except (KeyError, ValueError):
        return False


def _warn(path: Path, contents: Contents, known: int, *, continued: bool) -> None:
    where = {"path": str(path)}
    if contents.missing and known:
        log.warning("register is missing: what it knew is lost, a new one begins", extra=where)
    if not continued and not contents.missing:
        log.warning(
            "register is not what was written last: all of it is looked at, then it is written anew",
            extra=where,
        )
    if contents.others:
        log.warning(
            "register holds lines of another data directory", extra={**where, "lines": len(contents.others)}
        )
    if contents.unreadable:
        log.warning("register holds lines that are none", extra={**where, "lines": contents.unreadable})
    first = min((int(line["n"]) for line in contents.lines), default=known)
    if known and first > known + 1 and contents.lines[0]["kind"] != SITE:
        log.warning("register begins after this registry ends: what lies between is lost", extra=where)
