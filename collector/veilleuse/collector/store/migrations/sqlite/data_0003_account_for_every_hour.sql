-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- R18: for each host and day, produced = stored + declared gaps. Bounds on what one host can make grow.

-- Dated gaps by the period they fall in: grain 2 (day: start = day number) and 3 (week: start = the Monday's day number).
-- Undated ones are in gap_sums alone. Filled for records of before by store/sqlite/gaps.py: their spans are in their bytes.
CREATE TABLE gap_periods (
    host_id      INTEGER NOT NULL,
    grain        INTEGER NOT NULL,
    start        INTEGER NOT NULL,
    reason       INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    PRIMARY KEY (grain, start, host_id, reason)
) STRICT, WITHOUT ROWID;

-- Day number on which the stream began; 0 = before this was kept.
ALTER TABLE streams ADD COLUMN created_day INTEGER NOT NULL DEFAULT 0;

-- Which points a host ever sent: bounded per host.
CREATE TABLE host_points (
    host_id  INTEGER NOT NULL,
    point_id INTEGER NOT NULL,
    PRIMARY KEY (host_id, point_id)
) STRICT, WITHOUT ROWID;
INSERT INTO host_points SELECT DISTINCT host_id, point_id FROM point_sums;
