# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Root helpers, each a process of its own: they read what only root may, and publish it for the service."""
