# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores hosts, tokens, certificates and sites in data.db, and names in identity.db.

Implements ports.Registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from datetime import date
from typing import Any, Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.accounts import Account, first_moment
from veilleuse.collector.model.clones import Holders, pack_nonces, unpack_nonces
from veilleuse.collector.model.hosts import Certificate, CertificateDates, Host, HostStatus, Site, Token
from veilleuse.collector.model.records import AgentId, DataKind, HostId
from veilleuse.collector.store.sqlite import registry_rows
from veilleuse.collector.store.sqlite.accounts import SqliteAccounts
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.host_data import LAST_FORGOTTEN
from veilleuse.collector.store.sqlite.registry_rows import (
    HOST_COLUMNS,
    SITE_COLUMNS,
    FactsUpdate,
    host_from_row,
    place_server,
    read_data_kind,
    site_from_row,
)
from veilleuse.collector.wire_codec import POPULATIONS, facts_from_wire, number
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import Population

_TOKEN_COLUMNS: Final = (
    "token_id, token_sha256, created_unix_milliseconds, expires_unix_milliseconds, max_uses, uses, networks,"
    " org_entity, site, population, approve, revoked, admit_copies"
)
_NEXT_HOST_ID: Final = (
    "(SELECT 1 + max(coalesce((SELECT max(host_id) FROM hosts), 0),"
    f" coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = '{LAST_FORGOTTEN}'), 0)))"
)
"""Never the id of a forgotten machine: one of its calls may still be running."""
_CERTIFICATE_COLUMNS: Final = (
    "serial, host_id, generation, public_key_sha256, certificate_der, issued_unix_milliseconds,"
    " not_after_unix_milliseconds, token_id, previous_serial"
)

_HOLDER_COLUMNS: Final = (
    "instance_id, spare_instance_ids, greeted_records, waiting_instance_ids, copied_instance_ids,"
    " set_back_instance_id"
)


class SqliteRegistry:
    """Reads and writes on the writing connection. Each write is a transaction, or part of the caller's."""

    def __init__(self, data: Database, identity: Database) -> None:
        self._data = data
        self._identity = identity
        self._learning = FactsUpdate(data)

    # --- hosts

    def insert_host(
        self,
        *,
        agent_id: AgentId,
        token_id: int,
        org_entity: str,
        site: str,
        population: Population,
        status: HostStatus,
        enrolled_on: date,
        facts_wire: bytes | None,
        copy_of: HostId | None = None,
    ) -> HostId:
        """Insert a host. Raises sqlite3.IntegrityError for a known agent id or an unknown token or site."""
        self._data.check_files()  # no enrolment without an identity.db to note it
        with self._data.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO hosts (host_id, agent_id, token_id, org_entity, site, population, status, enrolled_day, facts,"
                f" copy_of) VALUES ({_NEXT_HOST_ID}, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    agent_id,
                    token_id,
                    org_entity,
                    site,
                    number(population),
                    status.value,
                    enrolled_on.toordinal(),
                    facts_wire,
                    copy_of,
                ),
            )
            host_id = HostId(int(cursor.lastrowid or 0))
            place_server(connection, host_id, facts_from_wire(facts_wire or b"").device_class)
        return host_id

    def host(self, host_id: HostId) -> Host | None:
        return self._host("host_id = ?", host_id)

    def host_by_agent_id(self, agent_id: AgentId) -> Host | None:
        return self._host("agent_id = ?", agent_id)

    def hosts(self) -> tuple[Host, ...]:
        sql = f"SELECT {HOST_COLUMNS} FROM hosts ORDER BY host_id"
        return tuple(map(host_from_row, self._data.rows(sql)))

    def hosts_of_token(self, token_id: int) -> tuple[HostId, ...]:
        sql = "SELECT host_id FROM hosts WHERE token_id = ? ORDER BY host_id"
        return tuple(HostId(row[0]) for row in self._data.rows(sql, token_id))

    def set_status(self, host_id: HostId, status: HostStatus) -> None:
        """Set the status of a host. The caller also tells the access table."""
        self._data.write("UPDATE hosts SET status = ? WHERE host_id = ?", status.value, host_id)

    def record_hello(
        self,
        host_id: HostId,
        *,
        facts_wire: bytes | None,
        health_wire: bytes | None,
        now_unix_milliseconds: int,
    ) -> None:
        """Store the last contact (for workstations midnight UTC of its date), and facts and health when
        given.

        Where facts are new, the host's periods are marked dirty.
        """
        midnight = now_unix_milliseconds - now_unix_milliseconds % MILLISECONDS_PER_DAY
        with self._data.transaction() as connection:
            if facts_wire is not None:
                self._learning.note(self.host(host_id), facts_wire, midnight)
            connection.execute(
                "UPDATE hosts SET last_contact_unix_milliseconds = CASE population WHEN ? THEN ? ELSE ? END,"
                " facts = coalesce(?, facts), health = coalesce(?, health) WHERE host_id = ?",
                (
                    number(Population.WORKSTATION),
                    midnight,
                    now_unix_milliseconds,
                    facts_wire,
                    health_wire,
                    host_id,
                ),
            )

    def holders(self, host_id: HostId) -> Holders:
        """Return the nonces of the host's Hello answers; empty at first."""
        row = self._data.row(f"SELECT {_HOLDER_COLUMNS} FROM hosts WHERE host_id = ?", host_id)
        if row is None:
            return Holders()
        current, spare, records, waiting, copies, set_back = row
        return Holders(
            current, unpack_nonces(spare), records, unpack_nonces(waiting), unpack_nonces(copies), set_back
        )

    def set_holders(self, host_id: HostId, holders: Holders) -> None:
        """Store the nonces: each 16 bytes, or empty."""
        self._data.write(
            f"UPDATE hosts SET ({_HOLDER_COLUMNS}) = (?, ?, ?, ?, ?, ?) WHERE host_id = ?",
            holders.current,
            pack_nonces(holders.spare),
            holders.records,
            pack_nonces(holders.waiting),
            pack_nonces(holders.copies),
            holders.set_back,
            host_id,
        )

    def note_use(self, host_id: HostId, generation: int) -> None:
        """Raise the generation in use; it never goes down."""
        self._data.write(
            "UPDATE hosts SET used_generation = ? WHERE host_id = ? AND used_generation < ?",
            generation,
            host_id,
            generation,
        )

    def note_conflict(self, host_id: HostId) -> None:
        """Count one conflict more."""
        self._data.write("UPDATE hosts SET conflicts = conflicts + 1 WHERE host_id = ?", host_id)

    def clear_conflicts(self, host_id: HostId) -> None:
        """Clear conflicts after an operator's review.

        While an older nonce waits, the next caller is the machine.
        """
        self._data.write(
            "UPDATE hosts SET conflicts = 0, copied_instance_ids = x'', waiting_instance_ids = x'',"
            " instance_id = CASE waiting_instance_ids WHEN x'' THEN instance_id ELSE x'' END WHERE host_id = ?",
            host_id,
        )

    def count_copies(self, original: HostId, status: HostStatus) -> int:
        """Count machines of this status that said to be clones of `original`."""
        sql = "SELECT count(*) FROM hosts WHERE copy_of = ? AND status = ?"
        return int(self._data.row(sql, original, status.value)[0])

    # --- forgotten machines

    def forgotten(self) -> dict[bytes, int]:
        """Return SHA-256 of their agent ids → day number."""
        return dict(self._data.rows("SELECT agent_id_sha256, day FROM forgotten"))

    def put_forgotten(self, agent_id_sha256: bytes, day: int) -> None:
        """Add a forgotten machine; no error when it is there."""
        self._data.write("INSERT INTO forgotten VALUES (?, ?) ON CONFLICT DO NOTHING", agent_id_sha256, day)

    # --- tokens

    def insert_token(
        self,
        *,
        token_sha256: bytes,
        created_unix_milliseconds: int,
        expires_unix_milliseconds: int,
        max_uses: int,
        networks: tuple[str, ...],
        org_entity: str,
        site: str,
        population: Population,
        approve: bool,
        admit_copies: bool = False,
    ) -> int:
        """Insert a token; returns its id. Raises sqlite3.IntegrityError when the site is unknown."""
        with self._data.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO tokens (token_sha256, created_unix_milliseconds, expires_unix_milliseconds, max_uses,"
                " networks, org_entity, site, population, approve, admit_copies) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    token_sha256,
                    created_unix_milliseconds,
                    expires_unix_milliseconds,
                    max_uses,
                    " ".join(networks),
                    org_entity,
                    site,
                    number(population),
                    int(approve),
                    int(admit_copies),
                ),
            )
        return int(cursor.lastrowid or 0)

    def token_by_hash(self, token_sha256: bytes) -> Token | None:
        row = self._data.row(f"SELECT {_TOKEN_COLUMNS} FROM tokens WHERE token_sha256 = ?", token_sha256)
        return _token(row) if row else None

    def token_of_host(self, host_id: HostId) -> Token | None:
        """Return the token that a host enrolled with, or whose placement it has."""
        row = self._data.row(
            f"SELECT {_TOKEN_COLUMNS} FROM tokens WHERE token_id = (SELECT token_id FROM hosts WHERE host_id = ?)",
            host_id,
        )
        return _token(row) if row else None

    def raise_token_uses(self, token_id: int, uses: int) -> None:
        """Raise the number of uses to at least `uses`."""
        self._data.write("UPDATE tokens SET uses = ? WHERE token_id = ? AND uses < ?", uses, token_id, uses)

    def tokens(self) -> tuple[Token, ...]:
        return tuple(map(_token, self._data.rows(f"SELECT {_TOKEN_COLUMNS} FROM tokens ORDER BY token_id")))

    def use_token(self, token_id: int, now_unix_milliseconds: int) -> bool:
        """Count one use, atomically.

        Returns False, and counts nothing, when used up, expired, revoked or unknown.
        """
        sql = (
            "UPDATE tokens SET uses = uses + 1"
            " WHERE token_id = ? AND uses < max_uses AND revoked = 0 AND expires_unix_milliseconds > ?"
        )
        return self._data.write(sql, token_id, now_unix_milliseconds) > 0

    def revoke_token(self, token_id: int) -> bool:
        """Revoke a token; returns False without such a token.

        Its hosts are up to the caller: `hosts_of_token`.
        """
        return self._data.write("UPDATE tokens SET revoked = 1 WHERE token_id = ?", token_id) > 0

    # --- certificates

    def insert_certificate(self, certificate: Certificate) -> None:
        """Insert a certificate. Raises sqlite3.IntegrityError when the serial is known."""
        self._data.write(
            f"INSERT INTO certificates ({_CERTIFICATE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *astuple(certificate),
        )

    def trim_certificates(self, host_id: HostId, oldest_generation: int) -> None:
        """Delete a host's renewed certificates below that generation; the certificate of its token stays."""
        self._data.write(
            "DELETE FROM certificates WHERE host_id = ? AND generation < ? AND token_id IS NULL",
            host_id,
            oldest_generation,
        )

    def latest_certificate(self, host_id: HostId) -> Certificate | None:
        """Return the certificate of the highest generation; of two, the one issued last."""
        return self._certificate(
            "host_id = ? ORDER BY generation DESC, issued_unix_milliseconds DESC LIMIT 1", host_id
        )

    def certificate_dates(self) -> Iterator[CertificateDates]:
        """Yield the dates of every stored certificate of active hosts, by host, newest generation first."""
        rows = self._data.rows(
            "SELECT agent_id, generation, issued_unix_milliseconds, not_after_unix_milliseconds"
            " FROM hosts JOIN certificates USING (host_id) WHERE status = ?"
            " ORDER BY host_id, generation DESC, issued_unix_milliseconds DESC",
            HostStatus.ACTIVE.value,
        )
        return (CertificateDates(AgentId(row[0]), *row[1:]) for row in rows)

    def certificate_by_serial(self, serial: str) -> Certificate | None:
        return self._certificate("serial = ?", serial)

    def certificate_by_token(self, token_id: int, public_key_sha256: bytes) -> Certificate | None:
        """Return the certificate of an enrolment, which is idempotent on (token, public key)."""
        return self._certificate(
            "token_id = ? AND public_key_sha256 = ? ORDER BY generation DESC, issued_unix_milliseconds DESC LIMIT 1",
            token_id,
            public_key_sha256,
        )

    def certificate_by_previous(self, previous_serial: str, public_key_sha256: bytes) -> Certificate | None:
        """Return the certificate of a renewal, which is idempotent on (current serial, new public key)."""
        return self._certificate(
            "previous_serial = ? AND public_key_sha256 = ? ORDER BY generation DESC, issued_unix_milliseconds DESC LIMIT 1",
            previous_serial,
            public_key_sha256,
        )

    # --- sites and the data directory

    def site(self, name: str) -> Site:
        """Return a site. Raises UsageError without such a site."""
        row = self._data.row(f"SELECT {SITE_COLUMNS} FROM sites WHERE site = ?", name)
        if row is None:
            known = ", ".join(site.site for site in self.sites()) or "none yet"
            raise UsageError(f"no site '{name}': use one of {known}, or import its calendar first")
        return site_from_row(row)

    def sites(self) -> tuple[Site, ...]:
        return tuple(map(site_from_row, self._data.rows(f"SELECT {SITE_COLUMNS} FROM sites ORDER BY site")))

    def put_site(self, site: Site) -> None:
        self._data.write(
            f"INSERT INTO sites ({SITE_COLUMNS}) VALUES (?, ?, ?, ?) ON CONFLICT (site) DO UPDATE SET"
            " zone = excluded.zone, time_zone = excluded.time_zone, calendar_json = excluded.calendar_json",
            *astuple(site),
        )
        self._data.forget()

    def data_kind(self) -> DataKind:
        """Tell whether the data are real or simulated, and since when."""
        return read_data_kind(self._data.connection)

    def put_meta(self, key: str, value: str) -> None:
        """Store a fact about the data directory; `data_kind` reads these."""
        self._data.write(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key,
            value,
        )

    # --- identity.db

    def put_name(self, agent_id: AgentId, host_name: str) -> None:
        """Store a name for operators; only for servers that allow it."""
        self._identity.write(
            "INSERT INTO names VALUES (?, ?) ON CONFLICT (agent_id) DO UPDATE SET host_name = excluded.host_name",
            agent_id,
            host_name,
        )

    def put_pseudonyms(self, agent_id: AgentId, chassis: bytes, smbios: bytes) -> None:
        """Store pseudonyms: each 32 bytes, or empty when not given."""
        sql = (
            "INSERT INTO pseudonyms VALUES (?, ?, ?) ON CONFLICT (agent_id) DO UPDATE SET"
            " chassis_pseudonym = excluded.chassis_pseudonym, smbios_pseudonym = excluded.smbios_pseudonym"
        )
        self._identity.write(sql, agent_id, chassis, smbios)

    def has_twin(self, agent_id: AgentId) -> bool:
        """Return whether another host has one of its pseudonyms."""
        sql = (
            "SELECT 1 FROM pseudonyms AS own JOIN pseudonyms AS other ON own.agent_id <> other.agent_id"
            " AND (own.chassis_pseudonym = other.chassis_pseudonym AND own.chassis_pseudonym <> x''"
            " OR own.smbios_pseudonym = other.smbios_pseudonym AND own.smbios_pseudonym <> x'')"
            " WHERE own.agent_id = ? LIMIT 1"
        )
        return self._identity.row(sql, agent_id) is not None

    def mark_shared_pseudonyms(self) -> None:
        """Store which hosts share a pseudonym: see find_twins."""
        registry_rows.mark_shared(self._data, self._identity)

    def names(self) -> dict[AgentId, str]:
        """Return the names of hosts that gave one. The caller writes the reason to the journal."""
        rows = self._identity.rows("SELECT agent_id, host_name FROM names")
        return {AgentId(row[0]): str(row[1]) for row in rows}

    def pseudonyms(self, agent_id: AgentId) -> tuple[bytes, bytes]:
        """Return (chassis, SMBIOS), each 32 bytes or empty."""
        sql = "SELECT chassis_pseudonym, smbios_pseudonym FROM pseudonyms WHERE agent_id = ?"
        return self._identity.row(sql, agent_id) or (b"", b"")

    def journal_of(self, agent_id: AgentId) -> list[dict[str, str | int]]:
        """Return the journal of one machine: who read its name, and why."""
        return registry_rows.of_machine(self._identity, agent_id)

    def journal(
        self, since: int, until: int, *, who: str | None = None, limit: int
    ) -> list[dict[str, str | int]]:
        """Return lines of [since, until), Unix milliseconds, newest first.

        The caller writes the reason to the journal.
        """
        return registry_rows.between(self._identity, since, until, who=who, limit=limit)

    def revoke_account(self, token_sha256: bytes, day: int) -> bool:
        """End an account on a UTC day number; returns False without a token in force."""
        sql = (
            "UPDATE accounts SET revoked_unix_milliseconds = ?"
            " WHERE token_sha256 = ? AND revoked_unix_milliseconds IS NULL"
        )
        return self._data.write(sql, first_moment(day), token_sha256) == 1

    def accounts(self) -> tuple[Account, ...]:
        """Return all accounts, also ended ones, in the order of creation."""
        return SqliteAccounts(self._data).accounts()

    def insert_account(self, **facts: Any) -> Account:
        """Insert an account: see SqliteAccounts."""
        return SqliteAccounts(self._data).insert_account(**facts)

    def write_journal(self, *, now_unix_milliseconds: int, who: str, what: str, why: str) -> None:
        """Add one access to identity.db to the journal."""
        registry_rows.write(self._identity, now_unix_milliseconds, who, what, why)

    # --- helpers

    def _host(self, where: str, value: Any) -> Host | None:
        row = self._data.row(f"SELECT {HOST_COLUMNS} FROM hosts WHERE {where}", value)
        return host_from_row(row) if row else None

    def _certificate(self, where: str, *values: Any) -> Certificate | None:
        row = self._data.row(f"SELECT {_CERTIFICATE_COLUMNS} FROM certificates WHERE {where}", *values)
        return Certificate(*row) if row else None


def _token(row: Any) -> Token:
    (
        token_id,
        sha256,
        created,
        expires,
        max_uses,
        uses,
        networks,
        entity,
        site,
        population,
        approve,
        revoked,
        admit_copies,
    ) = row
    return Token(
        token_id,
        sha256,
        created,
        expires,
        max_uses,
        uses,
        tuple(networks.split()),
        entity,
        site,
        POPULATIONS[population],
        bool(approve),
        bool(revoked),
        bool(admit_copies),
    )
