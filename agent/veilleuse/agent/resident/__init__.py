# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The resident process: ticks, folds records, writes checkpoints, starts the two other processes."""
