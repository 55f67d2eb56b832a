-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Who may read figures over HTTP, and what was read: docs/api.md.

CREATE TABLE accounts (
    account_id                INTEGER PRIMARY KEY,
    -- Of a use, never of a person.
    name                      TEXT NOT NULL,
    -- reader or admin.
    role                      TEXT NOT NULL,
    -- Of 256 random bits, which are stored nowhere.
    token_sha256              BLOB NOT NULL UNIQUE,
    created_unix_milliseconds INTEGER NOT NULL,
    expires_unix_milliseconds INTEGER NOT NULL,
    -- NULL = in force until it expires.
    revoked_unix_milliseconds INTEGER,
    -- UTC day number; NULL = never.
    last_used_day             INTEGER
) STRICT;
CREATE UNIQUE INDEX accounts_in_force ON accounts (name) WHERE revoked_unix_milliseconds IS NULL;

-- None: the whole fleet.
CREATE TABLE account_entities (
    account_id INTEGER NOT NULL REFERENCES accounts (account_id),
    entity     TEXT NOT NULL,
    PRIMARY KEY (account_id, entity)
) STRICT, WITHOUT ROWID;

-- The access journal: the same question of an account within one UTC hour is one row. Kept for a year.
CREATE TABLE accesses (
    access_id               INTEGER PRIMARY KEY,
    account_id              INTEGER NOT NULL REFERENCES accounts (account_id),
    hour                    INTEGER NOT NULL,
    route                   TEXT NOT NULL,
    query                   TEXT NOT NULL,
    status                  INTEGER NOT NULL,
    times                   INTEGER NOT NULL,
    rows                    INTEGER NOT NULL,
    first_unix_milliseconds INTEGER NOT NULL,
    last_unix_milliseconds  INTEGER NOT NULL,
    UNIQUE (account_id, hour, route, query, status)
) STRICT;
CREATE INDEX accesses_by_time ON accesses (last_unix_milliseconds);
