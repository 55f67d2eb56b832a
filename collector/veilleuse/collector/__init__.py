# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The collector stores records, then interprets them: receiver, writer, store, derive, account, outlets."""
