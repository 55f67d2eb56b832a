-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Actions whose saving is measured (I14), and the REEN sheet's imported lines: docs/reen.md. Rows are added and never
-- changed; the newest row of an action, or of a key, is the one in force.

CREATE TABLE actions (
    row_id            INTEGER PRIMARY KEY,
    action_id         TEXT NOT NULL CHECK (action_id <> ''),
    unix_milliseconds INTEGER NOT NULL,
    who               TEXT NOT NULL,
    why               TEXT NOT NULL,
    -- Sites touched, a JSON array; day number (date.toordinal). [] = withdrawn.
    sites_json        TEXT NOT NULL,
    from_day          INTEGER NOT NULL,
    what              TEXT NOT NULL
) STRICT;
CREATE INDEX actions_of ON actions (action_id, row_id);

CREATE TABLE follow_imports (
    import_id         INTEGER PRIMARY KEY,
    unix_milliseconds INTEGER NOT NULL,
    file_name         TEXT NOT NULL,
    who               TEXT NOT NULL,
    why               TEXT NOT NULL
) STRICT;

CREATE TABLE follow_lines (
    line_id    INTEGER PRIMARY KEY,
    import_id  INTEGER NOT NULL REFERENCES follow_imports (import_id),
    -- objectives, measures, other_items or retired_stock.
    kind       TEXT NOT NULL,
    key        TEXT NOT NULL,
    -- Column → text; NULL = no longer in force.
    cells_json TEXT
) STRICT;
CREATE INDEX follow_lines_of ON follow_lines (kind, key, line_id);

CREATE TRIGGER actions_are_kept BEFORE UPDATE ON actions
    BEGIN SELECT RAISE(ABORT, 'an action is never changed'); END;
CREATE TRIGGER actions_stay BEFORE DELETE ON actions
    BEGIN SELECT RAISE(ABORT, 'an action is never deleted'); END;
CREATE TRIGGER follow_imports_are_kept BEFORE UPDATE ON follow_imports
    BEGIN SELECT RAISE(ABORT, 'an import is never changed'); END;
CREATE TRIGGER follow_imports_stay BEFORE DELETE ON follow_imports
    BEGIN SELECT RAISE(ABORT, 'an import is never deleted'); END;
CREATE TRIGGER follow_lines_are_kept BEFORE UPDATE ON follow_lines
    BEGIN SELECT RAISE(ABORT, 'a line is never changed'); END;
CREATE TRIGGER follow_lines_stay BEFORE DELETE ON follow_lines
    BEGIN SELECT RAISE(ABORT, 'a line is never deleted'); END;
