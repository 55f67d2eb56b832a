-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Time that a meter covers while the state is unknown (5) was imputed too, beside its metered energy. The months of such machines are
-- computed again, from the days that are still kept. 1721424.5: Julian day of the day number 0. A week is of the months of its Monday and
-- its Sunday.

INSERT INTO stale_months
    SELECT DISTINCT CAST(julianday(start + 1721424.5, 'start of month') - 1721424.5 AS INTEGER), host_id
    FROM (
        SELECT DISTINCT host_id, start FROM sums WHERE grain = 2
        UNION SELECT host_id, start FROM sums WHERE grain = 3
        UNION SELECT host_id, start + 6 FROM sums WHERE grain = 3
    )
    WHERE host_id IN (SELECT host_id FROM derived WHERE state = 5)
    ON CONFLICT DO NOTHING;
