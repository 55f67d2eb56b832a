# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the agent and the collector must agree on. Imports nothing of ours, and nothing heavy."""
