# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rules and values shared by the agent and the collector. Imports nothing of ours, and nothing heavy."""
