# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a closed year was computed with, beside what is kept of its machines: factors, mapping, contracts, assumptions; as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping as Keyed
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from veilleuse.collector.errors import UnknownZone
from veilleuse.collector.factors.versions import factor_document, factor_from_document
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.fleet_inputs import CalibratedWall
from veilleuse.collector.model.calibration import Fit
from veilleuse.collector.model.factors import BilanItem, BilanMapping, ChosenFactor, ContextMapping, Contract
from veilleuse.collector.model.inventory import PowerContext


@dataclass(frozen=True, slots=True)
class FrozenTerms:
    """Of one year."""

    factors: Keyed[str, ChosenFactor]
    """By grid zone."""
    mapping: BilanMapping
    contracts: Sequence[Contract]
    assumptions: Assumptions
    data: str
    """real or simulated."""

    def choose(self, zone: str, year: int) -> ChosenFactor:
        """As billing asks. Raises UnknownZone."""
        chosen = self.factors.get(zone)
        if chosen is None or chosen.year != year:
            raise UnknownZone(f"the closed year has no factor for zone '{zone}' in {year}")
        return chosen


def terms_document(terms: FrozenTerms) -> dict[str, Any]:
    """Ready for closed.canonical."""
    return {
        "data": terms.data,
        "factors": [
            {
                "zone": zone,
                "year": chosen.year,
                "provisional": chosen.provisional,
                "version": chosen.factor.version,
                "factor": factor_document(chosen.factor),
            }
            for zone, chosen in sorted(terms.factors.items())
        ],
        "mapping": _mapping_document(terms.mapping),
        "contracts": [_contract_document(one) for one in terms.contracts],
        "assumptions": assumptions_document(terms.assumptions),
    }


def assumptions_document(known: Assumptions) -> dict[str, Any]:
    """Ready for closed.canonical."""
    return {
        "random_roll_out": known.random_roll_out,
        "class_microwatts": {name: list(days) for name, days in known.class_microwatts.items()},
        "calibrations": [
            {"device_class": name, "hardware": hardware, "meter": wall.meter, "fit": asdict(wall.fit)}
            for (name, hardware), wall in sorted(known.calibrations.items())
        ],
    }


def assumptions_from_document(known: Keyed[str, Any]) -> Assumptions:
    """Inverse of `assumptions_document`. Raises ValueError, KeyError or TypeError for what is none."""
    return Assumptions(
        random_roll_out=known["random_roll_out"] is True,
        class_microwatts={name: tuple(days) for name, days in known["class_microwatts"].items()},
        calibrations={
            (one["device_class"], one["hardware"]): CalibratedWall(Fit(**one["fit"]), one["meter"])
            for one in known["calibrations"]
        },
    )


def terms_from_document(document: Keyed[str, Any]) -> FrozenTerms:
    """Inverse of `terms_document`. Raises ValueError, KeyError, TypeError or UsageError for what is none."""
    return FrozenTerms(
        {
            one["zone"]: ChosenFactor(
                replace(factor_from_document(one["factor"]), version=one["version"]),
                one["year"],
                provisional=one["provisional"] is True,
            )
            for one in document["factors"]
        },
        _mapping(document["mapping"]),
        [_contract(one) for one in document["contracts"]],
        assumptions_from_document(document["assumptions"]),
        document["data"],
    )


def _mapping_document(mapping: BilanMapping) -> dict[str, Any]:
    return {
        "confirmed_unix_milliseconds": mapping.confirmed_unix_milliseconds,
        "confirmed_by": mapping.confirmed_by,
        "why": mapping.why,
        "lines": [
            {
                "context": line.context.value,
                "combustion": [line.combustion.beges_item, line.combustion.ghg_category],
                "rest": None if line.rest is None else [line.rest.beges_item, line.rest.ghg_category],
                "in_beges_energie": line.in_beges_energie,
                "in_bilan_numerique": line.in_bilan_numerique,
                "origin": line.origin,
            }
            for line in mapping.lines
        ],
    }


def _mapping(document: Keyed[str, Any]) -> BilanMapping:
    return BilanMapping(
        tuple(
            ContextMapping(
                PowerContext(line["context"]),
                BilanItem(*line["combustion"]),
                None if line["rest"] is None else BilanItem(*line["rest"]),
                line["in_beges_energie"] is True,
                line["in_bilan_numerique"] is True,
                line["origin"],
            )
            for line in document["lines"]
        ),
        document["confirmed_unix_milliseconds"],
        document["confirmed_by"],
        document["why"],
    )


def _contract_document(one: Contract) -> dict[str, Any]:
    return {
        **asdict(one),
        "valid_from": one.valid_from.isoformat(),
        "valid_to": one.valid_to.isoformat(),
        "kwh": str(one.kwh),
        "factor_kgco2e_per_kwh": str(one.factor_kgco2e_per_kwh),
        "uncertainty_percent": str(one.uncertainty_percent),
    }


def _contract(document: Keyed[str, Any]) -> Contract:
    return Contract(
        **{
            **document,
            "valid_from": date.fromisoformat(document["valid_from"]),
            "valid_to": date.fromisoformat(document["valid_to"]),
            "kwh": Decimal(document["kwh"]),
            "factor_kgco2e_per_kwh": Decimal(document["factor_kgco2e_per_kwh"]),
            "uncertainty_percent": Decimal(document["uncertainty_percent"]),
        }
    )
