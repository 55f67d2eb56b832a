-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Years that nobody has closed yet: their statistics, kept by the collector itself before a row of their machines goes (docs/closing.md).
-- One row a year, replaced when the statistics differ, deleted when the year is closed: a closed year has its own. No host is in it.

CREATE TABLE kept_years (
    year              INTEGER PRIMARY KEY,
    -- Day number of the day that the statistics were computed on.
    kept_day          INTEGER NOT NULL,
    -- 1: the statistics were computed before the first of these went; retention may take them, and figures no longer rest on them.
    readings_may_go   INTEGER NOT NULL CHECK (readings_may_go IN (0, 1)),
    months_may_go     INTEGER NOT NULL CHECK (months_may_go IN (0, 1)),
    -- Of the JSON, hexadecimal. NULL: months of the year had gone before it could be kept, as under an earlier program.
    statistics_sha256 TEXT CHECK ((statistics_sha256 IS NULL) = (json IS NULL)),
    -- What was in force, as JSON under zlib.
    facts             BLOB CHECK ((facts IS NULL) = (json IS NULL)),
    -- Sums of ten machines or more, as JSON under zlib.
    json              BLOB
) STRICT;
