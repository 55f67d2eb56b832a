# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Administration of an open data directory.

The same operations serve both ways in: over `<data_dir>/admin.sock` while `veilleuse serve` runs, else in the
command's own process, which then holds the directory's lock (veilleuse.collector.cli.perform).
"""
