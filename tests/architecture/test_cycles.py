# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Imports form no cycle: a module is read and tested after those that it imports. docs/architecture.md."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


@pytest.mark.parametrize("side", ["veilleuse.agent", "veilleuse.collector", "veilleuse.wire"])
def test_no_module_imports_itself_by_way_of_others(side: str) -> None:
    """Imports inside functions and imports for type checking count too."""
    graph = grimp.build_graph(side, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
