-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- What PROMISES.md §2.6-2.7 asks to be remembered of each machine.

-- Highest generation of certificate a call came with; 0 = none yet. A restart no longer forgets it.
ALTER TABLE hosts ADD COLUMN used_generation INTEGER NOT NULL DEFAULT 0;
-- The machine this one was copied from (host_id); NULL = none.
ALTER TABLE hosts ADD COLUMN copy_of INTEGER;
-- Nonces of Hello answers that seem to have been lost, 16 bytes each, oldest first: one that comes back proves two holders.
ALTER TABLE hosts ADD COLUMN lost_instance_ids BLOB NOT NULL DEFAULT x'';
-- 1 once two holders were seen under this identity; stays until an operator has looked.
ALTER TABLE hosts ADD COLUMN conflicts INTEGER NOT NULL DEFAULT 0;

-- Machines that were forgotten: nothing but the hash of their id is left, so that their certificate is refused.
CREATE TABLE forgotten (
    agent_id_sha256 BLOB PRIMARY KEY,
    day             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
