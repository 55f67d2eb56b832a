# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The estimator: from the machines that were measured to the fleet, with an interval (pure)."""
