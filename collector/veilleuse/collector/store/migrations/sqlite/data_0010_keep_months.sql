-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Months and years of machines, kept when their days go: docs/decisions/0031. month: day number of its 1st. day_type: 1 open,
-- 2 school holiday, 3 closed (vectors.DayType).

-- Names of vectors.COLUMNS, one a line: what the bytes of a vector are. A version with other columns adds a row.
CREATE TABLE layouts (
    layout  INTEGER PRIMARY KEY,
    columns TEXT NOT NULL UNIQUE
) STRICT;

-- days_gone: 0 all its days are there, 1 those in gone_days are not, 2 none is. sums: a bit per column that is not 0, lowest first,
-- in whole bytes; then those values, 8 bytes each, signed, little-endian.
CREATE TABLE host_months (
    month       INTEGER NOT NULL,
    host_id     INTEGER NOT NULL,
    day_type    INTEGER NOT NULL,
    band        INTEGER NOT NULL,
    apportioned INTEGER NOT NULL,
    days_gone   INTEGER NOT NULL,
    layout      INTEGER NOT NULL REFERENCES layouts (layout),
    sums        BLOB NOT NULL,
    PRIMARY KEY (month, host_id, day_type, band)
) STRICT, WITHOUT ROWID;
CREATE INDEX host_months_by_host ON host_months (host_id, month);

-- What a month has of days that retention took out of sums and derived.
CREATE TABLE gone_days (
    host_id     INTEGER NOT NULL,
    month       INTEGER NOT NULL,
    day_type    INTEGER NOT NULL,
    band        INTEGER NOT NULL,
    apportioned INTEGER NOT NULL,
    layout      INTEGER NOT NULL REFERENCES layouts (layout),
    sums        BLOB NOT NULL,
    PRIMARY KEY (host_id, month, day_type, band)
) STRICT, WITHOUT ROWID;

-- Always the sum of the host_months of the year. sums: all columns, 8 bytes each: 10,000 machines are read in a quarter of a second.
CREATE TABLE host_years (
    year        INTEGER NOT NULL,
    host_id     INTEGER NOT NULL,
    day_type    INTEGER NOT NULL,
    band        INTEGER NOT NULL,
    apportioned INTEGER NOT NULL,
    layout      INTEGER NOT NULL REFERENCES layouts (layout),
    sums        BLOB NOT NULL,
    PRIMARY KEY (year, host_id, day_type, band)
) STRICT, WITHOUT ROWID;
CREATE INDEX host_years_by_host ON host_years (host_id, year);

-- Months that are not kept yet, or no longer true. The transaction that changes a day sets the mark of its month.
CREATE TABLE stale_months (
    month   INTEGER NOT NULL,
    host_id INTEGER NOT NULL,
    PRIMARY KEY (month, host_id)
) STRICT, WITHOUT ROWID;
-- 1721424.5: Julian day of the day number 0. A week is of the months of its Monday and its Sunday.
INSERT INTO stale_months
    SELECT DISTINCT CAST(julianday(start + 1721424.5, 'start of month') - 1721424.5 AS INTEGER), host_id
    FROM (
        SELECT DISTINCT host_id, start FROM sums WHERE grain = 2
        UNION SELECT host_id, start FROM sums WHERE grain = 3
        UNION SELECT host_id, start + 6 FROM sums WHERE grain = 3
    );
