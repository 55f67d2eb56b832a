-- SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
-- SPDX-License-Identifier: EUPL-1.2
-- Published indicators have rows by entity and class since format 3: the collector publishes those of each
-- kept month anew.
DELETE FROM published_periods WHERE kind = 'indicators' AND format < 3;
