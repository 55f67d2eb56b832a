-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Size of both databases by day, for 'veilleuse doctor': when will the disk be full?

-- day: UTC, numbered as hosts.enrolled_day. The last look of a day holds.
CREATE TABLE sizes (
    day            INTEGER PRIMARY KEY,
    data_bytes     INTEGER NOT NULL,
    records        INTEGER NOT NULL
) STRICT;
