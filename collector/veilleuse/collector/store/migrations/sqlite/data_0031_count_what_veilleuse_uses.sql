-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- What Veilleuse itself uses: docs/methodology.md, section 12. NULL = not known: agents before 0.2 send none.
ALTER TABLE sums ADD COLUMN own_cpu_milliseconds INTEGER;

-- What the running collector counted on a UTC day: CPU time of its processes, and bytes of the calls of servers' agents. Bytes of PCs have
-- no name here: docs/privacy.md §4.
CREATE TABLE own_days (
    day   INTEGER NOT NULL,
    name  TEXT NOT NULL CHECK (name IN ('own_cpu_milliseconds', 'server_received_bytes', 'server_sent_bytes')),
    value INTEGER NOT NULL,
    PRIMARY KEY (day, name)
) STRICT, WITHOUT ROWID;
