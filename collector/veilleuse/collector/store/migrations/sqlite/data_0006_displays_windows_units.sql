-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- External displays, update windows, CPU time of units. No row is rewritten: NULL = never measured, and no agent of before sent any.

ALTER TABLE sums ADD COLUMN update_window_milliseconds INTEGER;
-- Display-milliseconds by size, in the order of telemetry.proto's DisplaySize: under 22 inches, 22 to 27, over 27, not announced.
ALTER TABLE sums ADD COLUMN display_0_milliseconds INTEGER;
ALTER TABLE sums ADD COLUMN display_1_milliseconds INTEGER;
ALTER TABLE sums ADD COLUMN display_2_milliseconds INTEGER;
ALTER TABLE sums ADD COLUMN display_3_milliseconds INTEGER;

-- The part of energy_millijoules that lies inside update windows.
ALTER TABLE point_sums ADD COLUMN update_window_energy_millijoules INTEGER;

-- Names of systemd units and guests, servers only: 'unit:<name>' or 'guest:<id>'.
CREATE TABLE units (
    unit_id INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE
) STRICT;

-- Which units a host ever sent: bounded per host, what comes beyond counts under 'unit:other'.
CREATE TABLE host_units (
    host_id INTEGER NOT NULL,
    unit_id INTEGER NOT NULL,
    PRIMARY KEY (host_id, unit_id)
) STRICT, WITHOUT ROWID;

-- Over all cells of the period; keyed by the very (grain, start, host_id) of sums.
CREATE TABLE unit_sums (
    host_id          INTEGER NOT NULL,
    grain            INTEGER NOT NULL,
    start            INTEGER NOT NULL,
    unit_id          INTEGER NOT NULL,
    cpu_milliseconds INTEGER NOT NULL,
    PRIMARY KEY (grain, start, host_id, unit_id)
) STRICT, WITHOUT ROWID;
