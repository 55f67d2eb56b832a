-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- data.db, SQLite. Integers only on the hot path: milliseconds, millijoules, bytes. Enum columns hold the
-- numbers of telemetry.proto; grain 1 hour, 2 day, 3 week (model.Grain). Names live in identity.db, never here.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sites (
    site          TEXT PRIMARY KEY,
    zone          TEXT NOT NULL,
    time_zone     TEXT NOT NULL,
    calendar_json TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    token_id                  INTEGER PRIMARY KEY,
    token_sha256              BLOB NOT NULL UNIQUE,
    created_unix_milliseconds INTEGER NOT NULL,
    expires_unix_milliseconds INTEGER NOT NULL,
    max_uses                  INTEGER NOT NULL,
    uses                      INTEGER NOT NULL DEFAULT 0,
    networks                  TEXT NOT NULL DEFAULT '',
    org_entity                TEXT NOT NULL,
    site                      TEXT NOT NULL REFERENCES sites (site),
    population                INTEGER NOT NULL,
    approve                   INTEGER NOT NULL DEFAULT 0,
    revoked                   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE hosts (
    host_id                        INTEGER PRIMARY KEY,
    agent_id                       BLOB NOT NULL UNIQUE,
    token_id                       INTEGER NOT NULL REFERENCES tokens (token_id),
    org_entity                     TEXT NOT NULL,
    site                           TEXT NOT NULL REFERENCES sites (site),
    population                     INTEGER NOT NULL,
    status                         TEXT NOT NULL,
    enrolled_day                   INTEGER NOT NULL,
    last_contact_unix_milliseconds INTEGER,
    facts                          BLOB,
    health                         BLOB,
    instance_id                    BLOB NOT NULL DEFAULT x''
) STRICT;

CREATE TABLE certificates (
    serial                     TEXT PRIMARY KEY,
    host_id                    INTEGER NOT NULL REFERENCES hosts (host_id),
    generation                 INTEGER NOT NULL,
    public_key_sha256          BLOB NOT NULL,
    token_id                   INTEGER,
    previous_serial            TEXT,
    certificate_der            BLOB NOT NULL,
    issued_unix_milliseconds   INTEGER NOT NULL,
    not_after_unix_milliseconds INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_by_host ON certificates (host_id, generation);
CREATE INDEX certificates_by_token ON certificates (token_id, public_key_sha256) WHERE token_id IS NOT NULL;
CREATE INDEX certificates_by_previous ON certificates (previous_serial, public_key_sha256)
    WHERE previous_serial IS NOT NULL;

CREATE INDEX hosts_by_token ON hosts (token_id);

CREATE TABLE streams (
    stream_id INTEGER PRIMARY KEY,
    host_id   INTEGER NOT NULL REFERENCES hosts (host_id),
    epoch     BLOB NOT NULL,
    mark      INTEGER NOT NULL,
    chain     BLOB NOT NULL,
    UNIQUE (host_id, epoch)
) STRICT;

-- start: clock records Unix ms of the period; date records the day number; week records the Monday's.
-- bucket: the hour, day or week derive works on. energy is NULL until first derived, and -1 when nothing could be.
-- A gap has grain 0 and start 0: it is of no period, its spans are in its bytes. Its bucket is its hash, so that the
-- index finds it again.
CREATE TABLE records (
    record_id                  INTEGER PRIMARY KEY,
    host_id                    INTEGER NOT NULL,
    stream_id                  INTEGER NOT NULL,
    seq                        INTEGER NOT NULL,
    grain                      INTEGER NOT NULL,
    bucket                     INTEGER NOT NULL,
    start                      INTEGER NOT NULL,
    milliseconds               INTEGER NOT NULL,
    hash                       BLOB NOT NULL,
    wire                       BLOB NOT NULL,
    derived_energy_millijoules INTEGER,
    UNIQUE (stream_id, seq)
) STRICT;
CREATE INDEX records_by_bucket ON records (host_id, grain, bucket);

CREATE TABLE points (
    point_id INTEGER PRIMARY KEY,
    kind     INTEGER NOT NULL,
    domain   TEXT NOT NULL,
    boundary INTEGER NOT NULL,
    subject  TEXT NOT NULL,
    UNIQUE (kind, domain, boundary, subject)
) STRICT;

-- NULL = never measured in this cell, which is not zero. Buckets are columns: one upsert a cell, where a row a bucket
-- took eight.
CREATE TABLE sums (
    host_id                             INTEGER NOT NULL,
    grain                               INTEGER NOT NULL,
    start                               INTEGER NOT NULL,
    band                                INTEGER NOT NULL,
    state                               INTEGER NOT NULL,
    supply                              INTEGER NOT NULL,
    milliseconds                        INTEGER NOT NULL,
    cpu_covered_milliseconds            INTEGER,
    cpu_busy_milliseconds               INTEGER,
    any_core_busy_milliseconds          INTEGER,
    idle_beyond_15_minutes_milliseconds INTEGER,
    idle_beyond_30_minutes_milliseconds INTEGER,
    idle_beyond_60_minutes_milliseconds INTEGER,
    disk_read_bytes                     INTEGER,
    disk_written_bytes                  INTEGER,
    network_received_bytes              INTEGER,
    network_sent_bytes                  INTEGER,
    gpu_busy_milliseconds               INTEGER,
    agent_cpu_milliseconds              INTEGER,
    cpu_bucket_00_milliseconds          INTEGER,
    cpu_bucket_01_milliseconds          INTEGER,
    cpu_bucket_02_milliseconds          INTEGER,
    cpu_bucket_03_milliseconds          INTEGER,
    cpu_bucket_04_milliseconds          INTEGER,
    cpu_bucket_05_milliseconds          INTEGER,
    cpu_bucket_06_milliseconds          INTEGER,
    cpu_bucket_07_milliseconds          INTEGER,
    cpu_bucket_08_milliseconds          INTEGER,
    cpu_bucket_09_milliseconds          INTEGER,
    cpu_bucket_10_milliseconds          INTEGER,
    cpu_bucket_11_milliseconds          INTEGER,
    cpu_bucket_12_milliseconds          INTEGER,
    memory_bucket_0_milliseconds        INTEGER,
    memory_bucket_1_milliseconds        INTEGER,
    memory_bucket_2_milliseconds        INTEGER,
    memory_bucket_3_milliseconds        INTEGER,
    memory_bucket_4_milliseconds        INTEGER,
    network_rate_0_milliseconds         INTEGER,
    network_rate_1_milliseconds         INTEGER,
    network_rate_2_milliseconds         INTEGER,
    network_rate_3_milliseconds         INTEGER,
    PRIMARY KEY (grain, start, host_id, band, state, supply)
) STRICT, WITHOUT ROWID;
CREATE INDEX sums_by_host ON sums (host_id, grain, start);

CREATE TABLE point_sums (
    host_id              INTEGER NOT NULL,
    grain                INTEGER NOT NULL,
    start                INTEGER NOT NULL,
    band                 INTEGER NOT NULL,
    state                INTEGER NOT NULL,
    supply               INTEGER NOT NULL,
    point_id             INTEGER NOT NULL,
    energy_millijoules   INTEGER NOT NULL,
    covered_milliseconds INTEGER NOT NULL,
    PRIMARY KEY (grain, start, host_id, band, state, supply, point_id)
) STRICT, WITHOUT ROWID;

-- What every scrape of /metrics asks, added to by the transaction that stores the records: no query grows with the years.
CREATE TABLE state_totals (
    host_id      INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    PRIMARY KEY (host_id, state)
) STRICT, WITHOUT ROWID;

-- records: rows of that table, not yet expired.
CREATE TABLE totals (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO totals VALUES ('records', 0);

-- Whole records that are gaps, and milliseconds of sensor gaps inside records. Not by source: an agent could make rows
-- without end, and every scrape reads them; which source it was is in the record's bytes.
CREATE TABLE gap_sums (
    host_id      INTEGER NOT NULL,
    reason       INTEGER NOT NULL,
    records      INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    PRIMARY KEY (host_id, reason)
) STRICT, WITHOUT ROWID;

-- dirty_id: the oldest mark is derived first. A mark that stands already keeps its place.
CREATE TABLE dirty (
    dirty_id INTEGER PRIMARY KEY,
    host_id  INTEGER NOT NULL,
    grain    INTEGER NOT NULL,
    start    INTEGER NOT NULL,
    UNIQUE (host_id, grain, start)
) STRICT;

-- Grain as the records (hour, day, week); hours are carried into the site's civil day too.
CREATE TABLE derived (
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
CREATE INDEX derived_by_host ON derived (host_id, grain, start);

-- The exposed counters, as first derived: only ever increased. factor is part of the key.
CREATE TABLE ledger (
    org_entity            TEXT NOT NULL,
    site                  TEXT NOT NULL,
    population            INTEGER NOT NULL,
    device_class          TEXT NOT NULL,
    method                TEXT NOT NULL,
    state                 INTEGER NOT NULL,
    factor_id             TEXT NOT NULL,
    factor_kgco2e_per_kwh TEXT NOT NULL,
    energy_millijoules    INTEGER NOT NULL,
    PRIMARY KEY (org_entity, site, population, device_class, method, state, factor_id, factor_kgco2e_per_kwh)
) STRICT, WITHOUT ROWID;
