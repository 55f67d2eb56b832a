# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ask servers outside, in the one way that the collector has: ODRÉ, Electricity Maps, GLPI."""
