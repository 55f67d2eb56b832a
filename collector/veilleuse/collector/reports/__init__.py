# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The reports as the command, the API and the pages make them: reads, accounts, and gives documents. One place for all."""
