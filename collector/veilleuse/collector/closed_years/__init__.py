# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Years that are closed: made, signed, revised, verified. docs/methodology.md §11; docs/closing.md."""
