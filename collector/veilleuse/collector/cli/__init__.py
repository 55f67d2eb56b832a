# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements the command `veilleuse`: one file per noun. main.py has the table of commands and says how to
add one.
"""
