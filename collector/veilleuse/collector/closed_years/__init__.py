# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Years that are closed: made, signed, revised, verified. METHOD.md §7, DESIGN.md §6; docs/closing.md."""
