# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The identity of an enrolled machine: key, certificate, join file; clones and disk images."""
