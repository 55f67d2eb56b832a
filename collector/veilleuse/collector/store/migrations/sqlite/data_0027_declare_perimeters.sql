-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Perimeters of a year: the rules that say which part of the fleet a device belongs to. The newest declaration of a year is in force.

CREATE TABLE perimeters (
    perimeters_id     INTEGER PRIMARY KEY,
    year              INTEGER NOT NULL,
    unix_milliseconds INTEGER NOT NULL,
    who               TEXT NOT NULL,
    why               TEXT NOT NULL,
    rules_json        TEXT NOT NULL
) STRICT;

CREATE TRIGGER perimeters_are_kept BEFORE UPDATE ON perimeters
    BEGIN SELECT RAISE(ABORT, 'declared perimeters are never changed'); END;
CREATE TRIGGER perimeters_stay BEFORE DELETE ON perimeters
    BEGIN SELECT RAISE(ABORT, 'declared perimeters are never deleted'); END;
