"""Which settings each stage depends on, and so how often it is computed. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rfray.cell import Cell
from rfray.data.amount import Amount
from rfray.grid import Place, Point, place, point_at, varying
from rfray.parameters import Parameters
from rfray.plan.turning import cell_at, turns
from rfray.stages.registry import stages
from rfray.stages.stage import Stage
from rfray.study import Study
from rfray.study.naming import OF_A_SEARCH, TRAIN
from rfray.study.settings import CELL_SETTINGS


@dataclass(frozen=True)
class Chosen:
    """A stage's parameters at a place.

    Attributes:
        parameters: All of them.
        own: The parameters of one node: without the list that gives several nodes, and without
            searched settings.
        changed: Those of `own` that are not at their default.
    """

    parameters: Parameters
    own: Mapping[str, Any]
    changed: Mapping[str, Any]


class Layout:
    """Which of the settings that vary each stage depends on, and the stage's places.

    A place is one value of each of those settings. A stage depends on the settings of the cell, on
    its own, and on those of the stages that it reads. Settings of later stages make no places.
    """

    def __init__(self, study: Study, points: Sequence[Point]) -> None:
        self.study = study
        self.stages = tuple(name for name in study.stage_parameters() if name not in OF_A_SEARCH)
        self.varying = varying(points)
        self.turns = turns(study, points)
        names = tuple(dict.fromkeys(name for point in points for name in point))
        network_names = _names_of(names, {TRAIN})
        self._names = {
            stage: _names_of(names, {stage, *stages()[stage].reads}) for stage in self.stages
        }
        self.places = {
            stage: tuple(dict.fromkeys(place(point, mine) for point in points))
            for stage, mine in self._names.items()
        }
        self.networks = tuple(dict.fromkeys(place(point, network_names) for point in points))
        self._shared = {
            stage: tuple(name for name in mine if name in network_names)
            for stage, mine in self._names.items()
        }
        self._chosen: dict[tuple[str, Place], Chosen] = {}
        self._of_network: dict[tuple[str, Place], list[Place]] = {}
        for stage, ones in self.places.items():
            for one in ones:
                part = place(dict(one), self._shared[stage])
                self._of_network.setdefault((stage, part), []).append(one)

    def chosen(self, stage: Stage[Any], one: Place) -> Chosen:
        """The parameters of a stage at one of its places."""
        own = tuple(pair for pair in one if pair[0].startswith(f"{stage.name}."))
        if (stage.name, own) not in self._chosen:
            parameters = self.study.parameters_at(stage.name, point_at(own))
            # A list that gives several nodes says nothing about one node. Searched settings get
            # their values from the search.
            excluded = {stage.fan.parameter} if stage.fan else set()
            excluded |= {
                name.partition(".")[2]
                for name in self.study.searched
                if name.startswith(f"{stage.name}.")
            }
            self._chosen[stage.name, own] = Chosen(
                parameters,
                parameters.model_dump(exclude=excluded),
                parameters.model_dump(exclude=excluded, exclude_defaults=True),
            )
        return self._chosen[stage.name, own]

    def cell(self, one: Place) -> Cell:
        """The cell at a place."""
        choices = tuple(pair for pair in one if pair[0] in CELL_SETTINGS)
        return _cell(choices, self.study.data.validation, self.study.dilated)

    def part(self, whole: Place, stage: str) -> Place:
        """The place of `stage` that is part of `whole`, a place of a stage that reads it."""
        return place(dict(whole), self._names[stage])

    def of_network(self, network: Place, stage: str) -> Sequence[Place]:
        """The places of a stage that belong to a trained network."""
        return self._of_network[stage, place(dict(network), self._shared[stage])]

    def shown(self, one: Place) -> dict[str, Any]:
        """The stage settings that vary in the study, with their values at a place."""
        return {
            name: value
            for name, value in point_at(one).items()
            if name in self.varying and name not in CELL_SETTINGS
        }


def _names_of(names: Iterable[str], stages: Collection[str]) -> tuple[str, ...]:
    """Those of `names` that are settings of the cell or of some stages."""
    return tuple(n for n in names if n in CELL_SETTINGS or n.partition(".")[0] in stages)


def cells_at(points: Iterable[Point], study: Study) -> tuple[Cell, ...]:
    """The cells of a study, each once."""
    choices = (place(point, CELL_SETTINGS) for point in points)
    return tuple(dict.fromkeys(_cell(one, study.data.validation, study.dilated) for one in choices))


@cache
def _cell(choices: Place, validation: Amount | None, layers: tuple[str, ...]) -> Cell:
    return cell_at(dict(choices), validation, layers)
