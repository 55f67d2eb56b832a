# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the reports of the commands, the API and the pages: reads the store, accounts, returns Documents."""
