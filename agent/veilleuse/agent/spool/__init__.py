# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""SQLite buffer on disk: the resident process appends rows, the sender numbers and delivers them."""
