-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Machines that were revoked, and the asset that each of them was: as matching last found it, or an operator said.

CREATE TABLE inventory_earlier_hosts (
    host_id  INTEGER PRIMARY KEY,
    asset_id INTEGER NOT NULL
) STRICT;
