-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Remote configuration: docs/wire.md §4. One line a population.

CREATE TABLE configurations (
    population       INTEGER PRIMARY KEY,
    -- Canonical JSON of veilleuse.wire.configuration.Configuration; {} = the machine's own file alone.
    active_json      TEXT NOT NULL,
    -- NULL = none.
    candidate_json   TEXT,
    -- Share of the population that gets the candidate: 1, 10 or 100.
    candidate_percent INTEGER NOT NULL DEFAULT 0,
    -- Machines whose draw (veilleuse.collector.model.remote_config) is not above this get the candidate; -1 = none.
    candidate_reach  INTEGER NOT NULL DEFAULT -1,
    changed_unix_milliseconds INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What the host said in its last Hello, both or none; state: applied, confirmed or failed.
ALTER TABLE hosts ADD COLUMN configuration_sha256 BLOB;
ALTER TABLE hosts ADD COLUMN configuration_state TEXT;
