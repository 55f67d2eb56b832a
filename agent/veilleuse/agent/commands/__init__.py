# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One file per command: `add_arguments(parser)` and `run(parsed, settings) -> exit code`.

Imported on demand.
"""
