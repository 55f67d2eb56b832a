-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Meters that several machines share, what they read, screens apart from machines: docs/decisions/0026.

-- What is declared of a meter (veilleuse meters import). boundary: metering.MeterBoundary; parent NULL = the highest.
CREATE TABLE meters (
    meter          TEXT PRIMARY KEY,
    site           TEXT NOT NULL REFERENCES sites (site),
    room           TEXT NOT NULL,
    boundary       TEXT NOT NULL,
    parent         TEXT,
    efficiency_ppm INTEGER
) STRICT, WITHOUT ROWID;

-- Day numbers of the civil days of the meter's site, both inclusive. part: machine or monitor. At most 1,000,000 a meter and day.
CREATE TABLE meter_shares (
    meter     TEXT NOT NULL REFERENCES meters (meter),
    host_id   INTEGER NOT NULL,
    part      TEXT NOT NULL,
    share_ppm INTEGER NOT NULL CHECK (share_ppm BETWEEN 1 AND 1000000),
    from_day  INTEGER NOT NULL,
    to_day    INTEGER NOT NULL CHECK (to_day >= from_day),
    PRIMARY KEY (meter, host_id, part, from_day)
) STRICT, WITHOUT ROWID;
CREATE INDEX meter_shares_by_host ON meter_shares (host_id);

-- point: the boundary at which the energy of the machines is taken.
CREATE TABLE room_pues (
    room     TEXT NOT NULL,
    from_day INTEGER NOT NULL,
    to_day   INTEGER NOT NULL CHECK (to_day >= from_day),
    pue_ppm  INTEGER NOT NULL CHECK (pue_ppm >= 1000000),
    point    TEXT NOT NULL,
    PRIMARY KEY (room, from_day)
) STRICT, WITHOUT ROWID;

-- What one agent (host_id) read of a meter in one UTC hour (Unix ms): written when that hour of the agent is derived.
CREATE TABLE meter_hours (
    meter                TEXT NOT NULL,
    start                INTEGER NOT NULL,
    host_id              INTEGER NOT NULL,
    kind                 INTEGER NOT NULL,
    energy_millijoules   INTEGER NOT NULL,
    covered_milliseconds INTEGER NOT NULL,
    PRIMARY KEY (meter, start, host_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX meter_hours_by_host ON meter_hours (host_id, start);

-- psys beside the battery's discharge, in the periods where a machine on battery has both: is its psys to be believed?
CREATE TABLE psys_checks (
    host_id               INTEGER NOT NULL,
    grain                 INTEGER NOT NULL,
    start                 INTEGER NOT NULL,
    psys_millijoules      INTEGER NOT NULL,
    discharge_millijoules INTEGER NOT NULL,
    milliseconds          INTEGER NOT NULL,
    PRIMARY KEY (host_id, grain, start)
) STRICT, WITHOUT ROWID;

-- As derived, of the external screens of a host: never part of the host's own energy.
-- milliseconds: display-milliseconds where modelled, time the meter covers where metered.
CREATE TABLE derived_screens (
    host_id                 INTEGER NOT NULL,
    grain                   INTEGER NOT NULL,
    start                   INTEGER NOT NULL,
    band                    INTEGER NOT NULL,
    state                   INTEGER NOT NULL,
    supply                  INTEGER NOT NULL,
    method                  TEXT NOT NULL,
    milliseconds            INTEGER NOT NULL,
    energy_millijoules      INTEGER NOT NULL,
    uncertainty_millijoules INTEGER NOT NULL,
    PRIMARY KEY (grain, start, host_id, band, state, supply, method)
) STRICT, WITHOUT ROWID;
CREATE INDEX derived_screens_by_host ON derived_screens (host_id, grain, start);
