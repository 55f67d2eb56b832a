# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The buffer on disk, an SQLite file: the resident appends, the sender numbers and delivers."""
