-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Closed years, kept for ever: docs/decisions/0039. Rows are added and never changed; no host is in them.

-- Sums of ten machines or more, as JSON under zlib; once, however many revisions rest on them.
CREATE TABLE closed_statistics (
    -- Of the JSON, hexadecimal.
    sha256 TEXT PRIMARY KEY,
    json   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE closed_years (
    year              INTEGER NOT NULL,
    -- 1, 2, 3 … without a hole.
    revision          INTEGER NOT NULL CHECK (revision > 0),
    -- closed_provisional or closed_definitive.
    state             TEXT NOT NULL,
    unix_milliseconds INTEGER NOT NULL,
    statistics_sha256 TEXT NOT NULL REFERENCES closed_statistics (sha256),
    -- Of the whole file closed/YEAR-rN.json, hexadecimal.
    sha256            TEXT NOT NULL,
    -- What of the file is not the statistics, as JSON under zlib.
    report            BLOB NOT NULL,
    -- closed/YEAR-rN.json.sig
    signature         BLOB NOT NULL,
    PRIMARY KEY (year, revision)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER closed_statistics_are_kept BEFORE UPDATE ON closed_statistics
    BEGIN SELECT RAISE(ABORT, 'what a closed year rests on is never changed'); END;
CREATE TRIGGER closed_statistics_stay BEFORE DELETE ON closed_statistics
    BEGIN SELECT RAISE(ABORT, 'what a closed year rests on is never deleted'); END;
CREATE TRIGGER closed_years_are_kept BEFORE UPDATE ON closed_years
    BEGIN SELECT RAISE(ABORT, 'a closed year is never changed: make a revision'); END;
CREATE TRIGGER closed_years_stay BEFORE DELETE ON closed_years
    BEGIN SELECT RAISE(ABORT, 'a closed year is never deleted'); END;
