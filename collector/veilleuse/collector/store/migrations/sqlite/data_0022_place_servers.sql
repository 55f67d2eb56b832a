-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Servers that stand in a metered room without a share of its meters (veilleuse meters import): docs/decisions/0026.

-- host_id 0 and asset_id 0: every server of the site that nothing else places. Day numbers of the site's civil days, both inclusive.
CREATE TABLE room_servers (
    room     TEXT NOT NULL,
    site     TEXT NOT NULL REFERENCES sites (site),
    host_id  INTEGER NOT NULL,
    asset_id INTEGER NOT NULL,
    from_day INTEGER NOT NULL,
    to_day   INTEGER NOT NULL CHECK (to_day >= from_day),
    PRIMARY KEY (room, host_id, asset_id, from_day)
) STRICT, WITHOUT ROWID;
