# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The one way in which the collector asks servers outside: ODRÉ, Electricity Maps, GLPI."""
