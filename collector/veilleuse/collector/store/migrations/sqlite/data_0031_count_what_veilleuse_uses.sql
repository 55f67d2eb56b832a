-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- What Veilleuse itself uses: docs/methodology.md, section 12. NULL = not known: agents before 0.2 send none.
ALTER TABLE sums ADD COLUMN own_cpu_milliseconds INTEGER;

-- What the running collector counted on a UTC day. name: 'own_cpu_milliseconds' of its processes, or '<population>_received_bytes' and
-- '<population>_sent_bytes' of the calls of its agents. Deleted with the days of PCs.
CREATE TABLE own_days (
    day   INTEGER NOT NULL,
    name  TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (day, name)
) STRICT, WITHOUT ROWID;
