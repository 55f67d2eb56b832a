-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Calibrations: one row per hardware model, quantity and time it was in force; never deleted, names no machine.

CREATE TABLE calibrations (
    calibration_id            INTEGER PRIMARY KEY,
    -- As collector/calibrated.py compares them: lower case, single spaces.
    vendor                    TEXT NOT NULL,
    model                     TEXT NOT NULL,
    device_class              TEXT NOT NULL,
    -- wall:<counters summed>, off or asleep.
    quantity                  TEXT NOT NULL,
    base_microwatts           INTEGER NOT NULL,
    slope_ppm                 INTEGER NOT NULL,
    -- µW², µW·ppm and ppm², k = 1, of the mean over the units; without the meter's gain error.
    base_variance             INTEGER NOT NULL,
    covariance                INTEGER NOT NULL,
    slope_variance            INTEGER NOT NULL,
    expansion_ppm             INTEGER NOT NULL,
    meter_u_ppm               INTEGER NOT NULL,
    floor_u_ppm               INTEGER NOT NULL,
    ceiling_u_ppm             INTEGER NOT NULL,
    -- collector/calibrated.py, Provenance.
    provenance_json           TEXT NOT NULL,
    applied_unix_milliseconds INTEGER NOT NULL,
    -- NULL = in force.
    ended_unix_milliseconds   INTEGER,
    -- calibration_id of the one that took its place; NULL = none, it was withdrawn.
    ended_by                  INTEGER,
    -- 1 while the periods of its machines are being marked to be derived again: a cut is carried on by the same command.
    marking                   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX calibrations_in_force ON calibrations (vendor, model, device_class, quantity)
    WHERE ended_unix_milliseconds IS NULL;
