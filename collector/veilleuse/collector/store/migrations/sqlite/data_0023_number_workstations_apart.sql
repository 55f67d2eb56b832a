-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Numbers of rows say nothing of when a workstation called: in one sequence with dated records, the two neighbours of a row bracketed it.

-- Streams and records of a workstation (population 1) have numbers of their own, below zero and per machine: store/sqlite/row_numbers.py.
CREATE TEMP TABLE moved_streams AS
    SELECT stream_id AS before, -(host_id << 32) + row_number() OVER (PARTITION BY host_id ORDER BY stream_id) AS after
    FROM streams JOIN hosts USING (host_id) WHERE population = 1;
CREATE TEMP TABLE moved_records AS
    SELECT record_id AS before, -(host_id << 32) + row_number() OVER (PARTITION BY host_id ORDER BY record_id) AS after
    FROM records JOIN hosts USING (host_id) WHERE population = 1;
UPDATE records SET record_id = r.after, stream_id = s.after
    FROM moved_records r, moved_streams s WHERE r.before = record_id AND s.before = stream_id;
UPDATE streams SET stream_id = s.after FROM moved_streams s WHERE s.before = stream_id;
DROP TABLE moved_records;
DROP TABLE moved_streams;

-- turn: marks of hours go in the order they were set, those of the same number by machine. Days and weeks have none: 0, before all hours.
CREATE TABLE marks (
    host_id INTEGER NOT NULL,
    grain   INTEGER NOT NULL,
    start   INTEGER NOT NULL,
    turn    INTEGER NOT NULL,
    PRIMARY KEY (host_id, grain, start)
) STRICT, WITHOUT ROWID;
INSERT INTO marks SELECT host_id, grain, start, iif(grain = 1, dirty_id, 0) FROM dirty;
DROP TABLE dirty;
ALTER TABLE marks RENAME TO dirty;
CREATE INDEX dirty_by_turn ON dirty (turn);
