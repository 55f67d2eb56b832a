# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Days → months and years of each machine, before its days go. docs/methodology.md §4 and §6; docs/decisions/0031."""
