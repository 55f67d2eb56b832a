-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Method 0.2 tells other figures of the same records than 0.1, and reports name the method: what there is of records is derived again.
-- One row an hour, day or week of a machine; the service takes them in slices beside its work. The ledger stays as first derived.

INSERT INTO dirty (host_id, grain, start)
    SELECT DISTINCT host_id, grain, bucket FROM records WHERE grain > 0 ON CONFLICT DO NOTHING;
