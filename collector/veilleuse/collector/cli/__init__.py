# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The command `veilleuse`: one file per noun. The table of commands, and how to add one, is in main.py."""
