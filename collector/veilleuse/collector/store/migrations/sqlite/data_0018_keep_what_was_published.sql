-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- What was published of a period, as it was published: docs/api.md. Sums that may be shown; no machine is in it.

CREATE TABLE published_periods (
    -- veilleuse.collector.model.publications.Kind.
    kind                        TEXT NOT NULL,
    -- Day number (date.toordinal).
    first_day                   INTEGER NOT NULL,
    -- Exclusive.
    end_day                     INTEGER NOT NULL,
    -- Of the content: 1, 2, 3 …
    format                      INTEGER NOT NULL,
    -- Fewest machines behind a group of it.
    k_anonymity                 INTEGER NOT NULL,
    -- Of the method that its energies were derived by.
    method_version              TEXT NOT NULL,
    published_unix_milliseconds INTEGER NOT NULL,
    content_bytes               INTEGER NOT NULL,
    -- JSON of words and integers.
    content                     TEXT NOT NULL,
    PRIMARY KEY (kind, first_day, end_day)
) STRICT;

CREATE TRIGGER published_periods_are_kept BEFORE UPDATE ON published_periods
    BEGIN SELECT RAISE(ABORT, 'what was published is never changed'); END;
