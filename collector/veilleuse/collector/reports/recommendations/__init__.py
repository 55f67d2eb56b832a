# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ranks what would save most energy, for the page of actions and `veilleuse report indicators --actions`.

No formula of its own: avoidable energy is I4, verdicts on servers are I6 to I8, measured savings are I14.
"""
