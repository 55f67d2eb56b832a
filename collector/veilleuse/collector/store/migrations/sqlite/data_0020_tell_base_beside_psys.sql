-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- What a laptop's battery says it draws beside its counters, in the periods where that is known. The past is derived again for it, and
-- for physical servers of unknown processor; what there is of records, as in data_0017.

ALTER TABLE psys_checks ADD COLUMN base_millijoules  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE psys_checks ADD COLUMN base_milliseconds INTEGER NOT NULL DEFAULT 0;

INSERT INTO dirty (host_id, grain, start)
    SELECT DISTINCT host_id, grain, bucket FROM records WHERE grain > 0 ON CONFLICT DO NOTHING;
