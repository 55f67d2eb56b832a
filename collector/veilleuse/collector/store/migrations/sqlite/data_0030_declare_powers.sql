-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Powers that an inventory declares for device classes. A row has all that are in force from its moment on; the newest one counts.

CREATE TABLE declared_powers (
    declared_id       INTEGER PRIMARY KEY,
    unix_milliseconds INTEGER NOT NULL,
    who               TEXT NOT NULL,
    why               TEXT NOT NULL,
    powers_json       TEXT NOT NULL
) STRICT;

CREATE TRIGGER declared_powers_are_kept BEFORE UPDATE ON declared_powers
    BEGIN SELECT RAISE(ABORT, 'declared powers are never changed'); END;
CREATE TRIGGER declared_powers_stay BEFORE DELETE ON declared_powers
    BEGIN SELECT RAISE(ABORT, 'declared powers are never deleted'); END;
