-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Sums of servers, for each look at them (/metrics, first page, `veilleuse top`): its time does not grow with the machines. Triggers keep them in the
-- transaction that stores or derives, so no writer can forget them. Reports never read them. store/sqlite/server_sums.py says what it adds.

-- Labels of a group of servers.
CREATE TABLE server_groups (
    group_id     INTEGER PRIMARY KEY,
    org_entity   TEXT NOT NULL,
    site         TEXT NOT NULL,
    device_class TEXT NOT NULL,
    UNIQUE (org_entity, site, device_class)
) STRICT;

-- group_id: of the class 'unknown' until the program has read the class from the machine's facts. change: rises with each change of its row in hosts. bucket to
-- energy: its newest derived record, as in records; energy -1 where none could be derived.
CREATE TABLE servers (
    host_id            INTEGER PRIMARY KEY,
    group_id           INTEGER NOT NULL REFERENCES server_groups (group_id),
    is_active          INTEGER NOT NULL,
    change             INTEGER NOT NULL,
    bucket             INTEGER,
    record_id          INTEGER,
    start              INTEGER,
    milliseconds       INTEGER,
    energy_millijoules INTEGER
) STRICT;
CREATE UNIQUE INDEX servers_by_change ON servers (change);

-- One row. Sums of days are kept from first_day (a day number) on, those of hours from first_hour (Unix ms); the program moves both each day. changes: the last
-- servers.change.
CREATE TABLE server_sums (
    first_day  INTEGER NOT NULL,
    first_hour INTEGER NOT NULL,
    changes    INTEGER NOT NULL
) STRICT;
INSERT INTO server_sums VALUES (1 << 40, 1 << 60, 0);

-- cells: rows of sums or derived behind the sum; 0 = the row does not count any more.
CREATE TABLE server_states (
    day          INTEGER NOT NULL,
    group_id     INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    cells        INTEGER NOT NULL,
    PRIMARY KEY (day, group_id, state)
) STRICT, WITHOUT ROWID;
CREATE TABLE server_energies (
    grain              INTEGER NOT NULL,
    start              INTEGER NOT NULL,
    group_id           INTEGER NOT NULL,
    state              INTEGER NOT NULL,
    method             TEXT NOT NULL,
    milliseconds       INTEGER NOT NULL,
    energy_millijoules INTEGER NOT NULL,
    cells              INTEGER NOT NULL,
    PRIMARY KEY (grain, start, group_id, state, method)
) STRICT, WITHOUT ROWID;
-- known_cells: rows of sums with a known state.
CREATE TABLE server_days (
    day          INTEGER NOT NULL,
    host_id      INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    known_cells  INTEGER NOT NULL,
    PRIMARY KEY (day, host_id)
) STRICT, WITHOUT ROWID;

-- state_totals of a group, with the servers that were forgotten since: counters on /metrics may not go down.
CREATE TABLE server_totals (
    group_id     INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    PRIMARY KEY (group_id, state)
) STRICT, WITHOUT ROWID;
-- gap_sums of all servers; cells: rows behind the sum.
CREATE TABLE server_gaps (
    reason       INTEGER PRIMARY KEY,
    records      INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    cells        INTEGER NOT NULL
) STRICT;

INSERT INTO server_groups (org_entity, site, device_class)
    SELECT org_entity, site, 'unknown' FROM hosts WHERE population = 3 UNION SELECT org_entity, site, 'unknown' FROM forgotten_states;
INSERT INTO servers (host_id, group_id, is_active, change)
    SELECT host_id, group_id, status = 'active', row_number() OVER (ORDER BY host_id) FROM hosts JOIN server_groups USING (org_entity, site)
    WHERE population = 3;
UPDATE server_sums SET changes = (SELECT count(*) FROM servers);
UPDATE servers SET (bucket, record_id, start, milliseconds, energy_millijoules) = (
    SELECT bucket, record_id, start, milliseconds, derived_energy_millijoules FROM records r
    WHERE r.host_id = servers.host_id AND grain = 1 AND derived_energy_millijoules IS NOT NULL ORDER BY bucket DESC, record_id DESC LIMIT 1);
-- forgotten_states is written and read no more.
INSERT INTO server_totals SELECT group_id, state, sum(milliseconds) FROM (
    SELECT group_id, state, t.milliseconds FROM state_totals t JOIN servers USING (host_id)
    UNION ALL SELECT group_id, state, milliseconds FROM forgotten_states JOIN server_groups USING (org_entity, site)) GROUP BY group_id, state;
INSERT INTO server_gaps SELECT reason, sum(records), sum(t.milliseconds), count(*) FROM gap_sums t JOIN servers USING (host_id) GROUP BY reason;

-- Counts of machines, without the documents in hosts.
CREATE INDEX hosts_by_place ON hosts (population, org_entity, site, status, enrolled_day);

CREATE TRIGGER server_enrols AFTER INSERT ON hosts WHEN NEW.population = 3 BEGIN
    UPDATE server_sums SET changes = changes + 1;
    INSERT INTO server_groups (org_entity, site, device_class) VALUES (NEW.org_entity, NEW.site, 'unknown') ON CONFLICT DO NOTHING;
    INSERT INTO servers (host_id, group_id, is_active, change)
        SELECT NEW.host_id, group_id, NEW.status = 'active', changes FROM server_groups, server_sums
        WHERE org_entity = NEW.org_entity AND site = NEW.site AND device_class = 'unknown';
END;
CREATE TRIGGER server_changes AFTER UPDATE OF status, last_contact_unix_milliseconds, configuration_sha256, configuration_state ON hosts
    WHEN NEW.population = 3 BEGIN
    UPDATE server_sums SET changes = changes + 1;
    UPDATE servers SET is_active = NEW.status = 'active', change = (SELECT changes FROM server_sums) WHERE host_id = NEW.host_id;
END;
CREATE TRIGGER server_leaves AFTER DELETE ON hosts WHEN OLD.population = 3 BEGIN
    DELETE FROM servers WHERE host_id = OLD.host_id;
    DELETE FROM server_days WHERE host_id = OLD.host_id;
END;
-- Its rows count in its new group.
CREATE TRIGGER server_moves AFTER UPDATE OF group_id ON servers WHEN NEW.group_id <> OLD.group_id BEGIN
    INSERT INTO server_states
        SELECT start, g.group_id, state, sum(g.sign * milliseconds), sum(g.sign)
        FROM sums, (SELECT OLD.group_id AS group_id, -1 AS sign UNION ALL SELECT NEW.group_id, 1) g
        WHERE host_id = NEW.host_id AND grain = 2 AND start >= (SELECT first_day FROM server_sums)
        GROUP BY start, g.group_id, state
        ON CONFLICT DO UPDATE SET milliseconds = milliseconds + excluded.milliseconds, cells = cells + excluded.cells;
    INSERT INTO server_energies
        SELECT grain, start, g.group_id, state, method, sum(g.sign * milliseconds), sum(g.sign * energy_millijoules), sum(g.sign)
        FROM derived, (SELECT OLD.group_id AS group_id, -1 AS sign UNION ALL SELECT NEW.group_id, 1) g
        WHERE host_id = NEW.host_id AND start >= (SELECT iif(grain = 1, first_hour, first_day) FROM server_sums)
        GROUP BY grain, start, g.group_id, state, method
        ON CONFLICT DO UPDATE SET milliseconds = milliseconds + excluded.milliseconds,
            energy_millijoules = energy_millijoules + excluded.energy_millijoules, cells = cells + excluded.cells;
END;

CREATE TRIGGER server_state_added AFTER INSERT ON sums WHEN NEW.grain = 2 AND NEW.start >= (SELECT first_day FROM server_sums) BEGIN
    INSERT INTO server_states
        SELECT NEW.start, group_id, NEW.state, NEW.milliseconds, 1 FROM servers WHERE host_id = NEW.host_id
        ON CONFLICT DO UPDATE SET milliseconds = milliseconds + excluded.milliseconds, cells = cells + 1;
    INSERT INTO server_days
        SELECT NEW.start, host_id, NEW.milliseconds, NEW.state <> 5 FROM servers WHERE host_id = NEW.host_id
        ON CONFLICT DO UPDATE SET milliseconds = milliseconds + excluded.milliseconds, known_cells = known_cells + excluded.known_cells;
END;
CREATE TRIGGER server_state_changed AFTER UPDATE OF milliseconds ON sums WHEN NEW.grain = 2 AND NEW.start >= (SELECT first_day FROM server_sums) BEGIN
    UPDATE server_states SET milliseconds = milliseconds + NEW.milliseconds - OLD.milliseconds
        WHERE day = NEW.start AND group_id = (SELECT group_id FROM servers WHERE host_id = NEW.host_id) AND state = NEW.state;
    UPDATE server_days SET milliseconds = milliseconds + NEW.milliseconds - OLD.milliseconds WHERE day = NEW.start AND host_id = NEW.host_id;
END;
-- Within the days that are kept, only a server that is forgotten loses rows: its server_days go with its row in hosts.
CREATE TRIGGER server_state_removed AFTER DELETE ON sums WHEN OLD.grain = 2 AND OLD.start >= (SELECT first_day FROM server_sums) BEGIN
    UPDATE server_states SET milliseconds = milliseconds - OLD.milliseconds, cells = cells - 1
        WHERE day = OLD.start AND group_id = (SELECT group_id FROM servers WHERE host_id = OLD.host_id) AND state = OLD.state;
END;

CREATE TRIGGER server_energy_added AFTER INSERT ON derived
    WHEN NEW.start >= (SELECT iif(NEW.grain = 1, first_hour, first_day) FROM server_sums) BEGIN
    INSERT INTO server_energies
        SELECT NEW.grain, NEW.start, group_id, NEW.state, NEW.method, NEW.milliseconds, NEW.energy_millijoules, 1 FROM servers WHERE host_id = NEW.host_id
        ON CONFLICT DO UPDATE SET milliseconds = milliseconds + excluded.milliseconds,
            energy_millijoules = energy_millijoules + excluded.energy_millijoules, cells = cells + 1;
END;
CREATE TRIGGER server_energy_changed AFTER UPDATE ON derived
    WHEN NEW.start >= (SELECT iif(NEW.grain = 1, first_hour, first_day) FROM server_sums) BEGIN
    UPDATE server_energies SET milliseconds = milliseconds + NEW.milliseconds - OLD.milliseconds,
            energy_millijoules = energy_millijoules + NEW.energy_millijoules - OLD.energy_millijoules
        WHERE grain = NEW.grain AND start = NEW.start AND group_id = (SELECT group_id FROM servers WHERE host_id = NEW.host_id)
        AND state = NEW.state AND method = NEW.method;
END;
CREATE TRIGGER server_energy_removed AFTER DELETE ON derived
    WHEN OLD.start >= (SELECT iif(OLD.grain = 1, first_hour, first_day) FROM server_sums) BEGIN
    UPDATE server_energies SET milliseconds = milliseconds - OLD.milliseconds, energy_millijoules = energy_millijoules - OLD.energy_millijoules,
            cells = cells - 1
        WHERE grain = OLD.grain AND start = OLD.start AND group_id = (SELECT group_id FROM servers WHERE host_id = OLD.host_id)
        AND state = OLD.state AND method = OLD.method;
END;
CREATE TRIGGER server_record_derived AFTER UPDATE OF derived_energy_millijoules ON records
    WHEN NEW.grain = 1 AND NEW.derived_energy_millijoules IS NOT NULL BEGIN
    UPDATE servers SET bucket = NEW.bucket, record_id = NEW.record_id, start = NEW.start, milliseconds = NEW.milliseconds,
            energy_millijoules = NEW.derived_energy_millijoules
        WHERE host_id = NEW.host_id AND (bucket IS NULL OR (bucket, record_id) <= (NEW.bucket, NEW.record_id));
END;

CREATE TRIGGER server_total_added AFTER INSERT ON state_totals BEGIN
    INSERT INTO server_totals SELECT group_id, NEW.state, NEW.milliseconds FROM servers WHERE host_id = NEW.host_id
        ON CONFLICT DO UPDATE SET milliseconds = milliseconds + excluded.milliseconds;
END;
CREATE TRIGGER server_total_changed AFTER UPDATE ON state_totals BEGIN
    INSERT INTO server_totals SELECT group_id, NEW.state, NEW.milliseconds - OLD.milliseconds FROM servers WHERE host_id = NEW.host_id
        ON CONFLICT DO UPDATE SET milliseconds = milliseconds + excluded.milliseconds;
END;
CREATE TRIGGER server_gap_added AFTER INSERT ON gap_sums WHEN EXISTS (SELECT 1 FROM servers WHERE host_id = NEW.host_id) BEGIN
    INSERT INTO server_gaps VALUES (NEW.reason, NEW.records, NEW.milliseconds, 1)
        ON CONFLICT DO UPDATE SET records = records + excluded.records, milliseconds = milliseconds + excluded.milliseconds, cells = cells + 1;
END;
CREATE TRIGGER server_gap_changed AFTER UPDATE ON gap_sums WHEN EXISTS (SELECT 1 FROM servers WHERE host_id = NEW.host_id) BEGIN
    UPDATE server_gaps SET records = records + NEW.records - OLD.records, milliseconds = milliseconds + NEW.milliseconds - OLD.milliseconds
        WHERE reason = NEW.reason;
END;
CREATE TRIGGER server_gap_removed AFTER DELETE ON gap_sums WHEN EXISTS (SELECT 1 FROM servers WHERE host_id = OLD.host_id) BEGIN
    UPDATE server_gaps SET records = records - OLD.records, milliseconds = milliseconds - OLD.milliseconds, cells = cells - 1
        WHERE reason = OLD.reason;
END;
