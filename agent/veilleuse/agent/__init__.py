# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The agent measures and never estimates. One way: sources → ticker → fold → spool → sender."""
