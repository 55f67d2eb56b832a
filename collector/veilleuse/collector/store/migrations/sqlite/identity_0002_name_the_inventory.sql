-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- What names the assets of data.db. The serial number and the UUID themselves are kept nowhere: their pseudonyms are.

CREATE TABLE inventory_names (
    asset_id          INTEGER PRIMARY KEY,
    source            TEXT NOT NULL,
    item              TEXT NOT NULL,
    key               TEXT NOT NULL,
    name              TEXT NOT NULL,
    inventory_number  TEXT NOT NULL,
    chassis_pseudonym BLOB NOT NULL,
    smbios_pseudonym  BLOB NOT NULL,
    raw               TEXT NOT NULL
) STRICT;

-- The last import's rows for data.db: written here together with the names, so that an import that was cut between the two
-- files is ended by the next start. Kept until the next one: a backup copies data.db first.
CREATE TABLE inventory_pending (
    generation INTEGER PRIMARY KEY,
    document   BLOB NOT NULL
) STRICT;
