# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that this machine's management controller is one point, found or named in the meters file."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.polling.process import jobs_of
from veilleuse.agent.settings import AgentSettings, Paths

PLUG = '[[meter]]\nname = "desk"\nsource = "shelly_plug"\naddress = "192.0.2.1:80"\n'
CONTROLLER = '[[meter]]\nname = "node"\nsource = "{source}"\n{more}\n'
LOCAL = CONTROLLER.format(source="ipmi_dcmi", more="ceiling_watts = 900")
SEEN = ["nvidia_nvml", "ipmi_dcmi"]


def agent(folder: Path) -> AgentSettings:
    """Return the settings of an agent whose meters file is in this folder."""
    return AgentSettings(paths=Paths(state=folder, meters=folder / "meters.toml"))


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (LOCAL, ["nvidia_nvml", "ipmi_dcmi node"]),
        (CONTROLLER.format(source="ipmi_dcmi", more="shared = true"), ["nvidia_nvml", "ipmi_dcmi node"]),
        (
            CONTROLLER.format(source="ipmi_dcmi", more='address = "192.0.2.9:623"'),
            ["nvidia_nvml", "ipmi_dcmi node"],
        ),
        (
            CONTROLLER.format(source="redfish", more='address = "192.0.2.9:443"'),
            ["nvidia_nvml", "redfish node"],
        ),
        (
            CONTROLLER.format(source="ipmi_dcmi", more='address = "192.0.2.9:623"\nshared = true'),
            [*SEEN, "ipmi_dcmi node"],
        ),
        (PLUG, [*SEEN, "shelly_plug desk"]),
    ],
)
def test_a_controller_in_the_meters_file_is_not_looked_for_again(tmp_path, entry, names):
    """A configured controller of this machine is not polled twice; one of another machine changes nothing."""
    (tmp_path / "meters.toml").write_text(entry)
    assert [each.name for each in jobs_of(agent(tmp_path))] == names


def test_one_controller_is_not_configured_twice(tmp_path):
    """Two entries without an address are refused: they would report one device's power under two names."""
    (tmp_path / "meters.toml").write_text(LOCAL + LOCAL.replace("node", "chassis"))
    with pytest.raises(ConfigurationError, match=r"meters.toml has 2 .*node, chassis"):
        jobs_of(agent(tmp_path))
