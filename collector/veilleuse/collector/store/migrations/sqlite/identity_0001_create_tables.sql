-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- identity.db: all that can name a machine. Nothing here is needed to compute a figure.

CREATE TABLE names (
    agent_id  BLOB PRIMARY KEY,
    host_name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pseudonyms (
    agent_id          BLOB PRIMARY KEY,
    chassis_pseudonym BLOB NOT NULL,
    smbios_pseudonym  BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (
    journal_id        INTEGER PRIMARY KEY,
    unix_milliseconds INTEGER NOT NULL,
    who               TEXT NOT NULL,
    what              TEXT NOT NULL,
    why               TEXT NOT NULL
) STRICT;
