-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- The inventory, without names, serial numbers, inventory numbers: those are in identity.db under the same asset_id. Days are
-- date.toordinal(); amounts are decimal texts; blank or NULL: not said.

CREATE TABLE inventory_entities (
    entity        TEXT PRIMARY KEY,
    parent        TEXT,
    site          TEXT NOT NULL DEFAULT '',
    power_context TEXT NOT NULL DEFAULT '',
    population    TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

-- host_id: as matching last found it, or an operator said.
CREATE TABLE inventory_assets (
    asset_id          INTEGER PRIMARY KEY,
    device_class      TEXT NOT NULL,
    population        TEXT NOT NULL,
    power_context     TEXT NOT NULL,
    vendor            TEXT NOT NULL,
    model             TEXT NOT NULL,
    in_service_on     INTEGER,
    out_of_service_on INTEGER,
    refurbished       INTEGER,
    displays          INTEGER,
    server_role       TEXT NOT NULL,
    absent_since      INTEGER,
    is_duplicate      INTEGER NOT NULL DEFAULT 0,
    host_id           INTEGER
) STRICT;
CREATE INDEX inventory_assets_by_host ON inventory_assets (host_id) WHERE host_id IS NOT NULL;

CREATE TABLE inventory_placements (
    asset_id INTEGER NOT NULL,
    from_day INTEGER NOT NULL,
    entity   TEXT NOT NULL,
    site     TEXT NOT NULL,
    PRIMARY KEY (asset_id, from_day)
) STRICT, WITHOUT ROWID;

CREATE TABLE inventory_purchases (
    purchase_id              INTEGER PRIMARY KEY,
    source                   TEXT NOT NULL,
    year                     INTEGER NOT NULL,
    category                 TEXT NOT NULL,
    amount_excluding_vat_eur TEXT NOT NULL,
    reused                   INTEGER NOT NULL,
    units                    INTEGER,
    entity                   TEXT NOT NULL
) STRICT;

CREATE TABLE inventory_retirements (
    retirement_id       INTEGER PRIMARY KEY,
    source              TEXT NOT NULL,
    day                 INTEGER NOT NULL,
    device_class        TEXT NOT NULL,
    units               INTEGER NOT NULL,
    destination         TEXT NOT NULL,
    reuse_committed     INTEGER NOT NULL,
    proof               TEXT NOT NULL,
    entity              TEXT NOT NULL,
    asset_id            INTEGER,
    age_years           REAL,
    security_restricted INTEGER NOT NULL
) STRICT;

CREATE TABLE inventory_headcounts (
    entity                 TEXT NOT NULL,
    from_day               INTEGER NOT NULL,
    users                  INTEGER NOT NULL,
    telework_days_per_week TEXT,
    PRIMARY KEY (entity, from_day)
) STRICT, WITHOUT ROWID;

-- What an operator said; host_id 0: of whatever machine.
CREATE TABLE inventory_decisions (
    asset_id INTEGER NOT NULL,
    host_id  INTEGER NOT NULL,
    verdict  TEXT NOT NULL,
    PRIMARY KEY (asset_id, host_id)
) STRICT, WITHOUT ROWID;

-- As matching last found them.
CREATE TABLE inventory_doubts (
    doubt_id       INTEGER PRIMARY KEY,
    kind           TEXT NOT NULL,
    asset_id       INTEGER NOT NULL,
    host_id        INTEGER,
    other_asset_id INTEGER
) STRICT;
