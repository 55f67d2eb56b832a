-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- What docs/wire.md §6 and §7 asks to be remembered of each machine.

-- Highest generation of certificate a Hello came with; 0 = none yet. A restart no longer forgets it.
ALTER TABLE hosts ADD COLUMN used_generation INTEGER NOT NULL DEFAULT 0;
-- The machine this one was copied from (host_id); NULL = none, or forgotten since.
ALTER TABLE hosts ADD COLUMN copy_of INTEGER;
CREATE INDEX hosts_by_original ON hosts (copy_of) WHERE copy_of IS NOT NULL;
-- Two holders of one identity (collector/holders.py). Nonces of Hello answers that seem to have been lost, 16 bytes
-- each, oldest first.
ALTER TABLE hosts ADD COLUMN lost_instance_ids BLOB NOT NULL DEFAULT x'';
-- How often one of them came back and was believed; 0 again once an operator has looked.
ALTER TABLE hosts ADD COLUMN returned_instances INTEGER NOT NULL DEFAULT 0;
-- How often two holders were seen under this identity; 0 again once an operator has looked.
ALTER TABLE hosts ADD COLUMN conflicts INTEGER NOT NULL DEFAULT 0;

-- Whether a copy of a machine that enrolled with it gets in at once while the token is good; else an operator decides.
ALTER TABLE tokens ADD COLUMN admit_copies INTEGER NOT NULL DEFAULT 0;

-- Machines that were forgotten: nothing but the hash of their id is left, so that their certificate is refused.
CREATE TABLE forgotten (
    agent_id_sha256 BLOB PRIMARY KEY,
    day             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- state_totals of servers that were forgotten, without the server: the counters on /metrics may not go down.
CREATE TABLE forgotten_states (
    org_entity   TEXT NOT NULL,
    site         TEXT NOT NULL,
    population   INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    PRIMARY KEY (org_entity, site, population, state)
) STRICT, WITHOUT ROWID;
