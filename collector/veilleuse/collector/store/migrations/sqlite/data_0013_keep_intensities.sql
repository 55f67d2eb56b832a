-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Intensity of grids over time, for the indicative ledger alone: docs/indicative.md. Nothing here is a factor.

-- One series is one quantity of one publisher: a status of it comes from one dataset, and all of it is of one kind.
CREATE TABLE intensity_series (
    zone    TEXT NOT NULL,
    series  TEXT NOT NULL,
    status  TEXT NOT NULL,
    dataset TEXT NOT NULL,
    kind    TEXT NOT NULL,
    PRIMARY KEY (zone, series, status)
) STRICT, WITHOUT ROWID;

-- start: Unix milliseconds, UTC. A value that was not published has no row: a gap is a gap, never zero.
CREATE TABLE intensities (
    zone                      TEXT NOT NULL,
    series                    TEXT NOT NULL,
    start                     INTEGER NOT NULL,
    minutes                   INTEGER NOT NULL CHECK (minutes BETWEEN 5 AND 60),
    milligrams_per_kwh        INTEGER NOT NULL CHECK (milligrams_per_kwh > 0),
    status                    TEXT NOT NULL,
    fetched_unix_milliseconds INTEGER NOT NULL,
    PRIMARY KEY (zone, series, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX intensities_by_status ON intensities (zone, series, status, start);

-- What stood there before: a consolidated value replaces those of real time, a restated one its own.
CREATE TABLE intensities_replaced (
    replaced_id                INTEGER PRIMARY KEY,
    zone                       TEXT NOT NULL,
    series                     TEXT NOT NULL,
    start                      INTEGER NOT NULL,
    minutes                    INTEGER NOT NULL,
    milligrams_per_kwh         INTEGER NOT NULL,
    status                     TEXT NOT NULL,
    dataset                    TEXT NOT NULL,
    fetched_unix_milliseconds  INTEGER NOT NULL,
    replaced_unix_milliseconds INTEGER NOT NULL,
    by_dataset                 TEXT NOT NULL
) STRICT;
CREATE INDEX intensities_replaced_at ON intensities_replaced (zone, series, start);
CREATE TRIGGER intensities_replaced_are_kept BEFORE UPDATE ON intensities_replaced
    BEGIN SELECT RAISE(ABORT, 'what was replaced is never changed'); END;
CREATE TRIGGER intensities_replaced_stay BEFORE DELETE ON intensities_replaced
    BEGIN SELECT RAISE(ABORT, 'what was replaced is never deleted'); END;

-- Calls of a connector in a UTC month (year * 12 + month - 1), counted before they are made.
CREATE TABLE intensity_calls (
    connector TEXT NOT NULL,
    month     INTEGER NOT NULL,
    calls     INTEGER NOT NULL,
    PRIMARY KEY (connector, month)
) STRICT, WITHOUT ROWID;

CREATE TABLE intensity_polls (
    connector                   TEXT PRIMARY KEY,
    tried_unix_milliseconds     INTEGER NOT NULL,
    succeeded_unix_milliseconds INTEGER,
    failures                    INTEGER NOT NULL,
    outcome                     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
