-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- A month under way is stored too, and again when its days change; its mark stays until it is stored for good (docs/decisions/0031).
-- stored: 0 no, or for good and out of date since; 1 under way, true; 2 under way, out of date.

ALTER TABLE stale_months ADD COLUMN stored INTEGER NOT NULL DEFAULT 0;
CREATE INDEX months_to_compute ON stale_months (month, host_id) WHERE stored <> 1;
