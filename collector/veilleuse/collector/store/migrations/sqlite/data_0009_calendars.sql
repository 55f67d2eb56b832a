-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- What was declared of each site's days, and every calendar that was made of it: docs/decisions/0028.

-- The newest of a site is the one in sites.calendar_json, that machines are given. from_day: day number of the 1st of the month from
-- which machines use it; 1 = the first one. declaration_json NULL = nobody declared it. year: that it was made for; 0 = none.
CREATE TABLE calendars (
    site             TEXT NOT NULL REFERENCES sites (site),
    from_day         INTEGER NOT NULL,
    calendar_json    TEXT NOT NULL,
    declaration_json TEXT,
    year             INTEGER NOT NULL,
    PRIMARY KEY (site, from_day)
) STRICT, WITHOUT ROWID;

-- Imported school holidays, both days included; they go before the shipped table.
CREATE TABLE school_holidays (
    zone      TEXT NOT NULL,
    first_day INTEGER NOT NULL,
    last_day  INTEGER NOT NULL CHECK (last_day >= first_day),
    name      TEXT NOT NULL,
    PRIMARY KEY (zone, first_day)
) STRICT, WITHOUT ROWID;
