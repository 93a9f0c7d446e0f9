"""The nodes of a search: its samples, and the node that chooses the best of them. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from rfray.errors import UserError, in_words
from rfray.grid import Place, place, varying
from rfray.plan.graph import Node
from rfray.plan.keys import digest, subject
from rfray.plan.layout import Layout
from rfray.plan.nodes import scope_params
from rfray.search.space import Proposal
from rfray.stages.registry import stages
from rfray.stages.sample import SampleParameters
from rfray.stages.search import DrawnSearch, SearchParameters
from rfray.study import Study
from rfray.study.naming import SAMPLE, SEARCH, TRAIN, scope_name, shown


def searched_groups(layout: Layout) -> Iterator[tuple[Place, ...]]:
    """For each search, the places of training that get its result; nothing without a search.

    Raises:
        UserError: The cells of one search differ in more than their seed.
    """
    search = layout.study.search_drawn
    if search is None:
        return
    for name in search.per:
        if name == "seed" or name not in layout.study.grid.names:
            raise UserError(
                "every search is for all seeds" if name == "seed" else f"'{name}' is not an axis",
                where=f"{layout.study.name}: search.per",
                do="leave it out",
            )
    groups: dict[Place, list[Place]] = {}
    for one in layout.places[TRAIN]:
        groups.setdefault(place(dict(one), search.per), []).append(one)
    for group in groups.values():
        apart = [name for name in varying([dict(one) for one in group]) if name != "seed"]
        if apart:
            raise UserError(
                f"the cells of one search differ in '{apart[0]}'",
                where=f"{layout.study.name}: search.per",
                do=f"add '{apart[0]}' to search.per",
            )
        yield tuple(group)


def search_nodes(layout: Layout, one: Place) -> Iterator[Node]:
    """The samples of one search, and after them the search itself."""
    search = layout.study.search_drawn
    assert search is not None  # noqa: S101 (there are no groups otherwise)
    samples = [
        _sample_node(layout, one, search, number, drawn)
        for number, drawn in enumerate(search.drawn)
    ]
    for numbers in search.proposed:
        earlier = tuple(node.key for node in samples)
        for position, number in enumerate(numbers):
            proposal = Proposal(space={**search.space}, startup=search.startup, place=position)
            samples.append(_sample_node(layout, one, search, number, {}, proposal, earlier))
    yield from samples
    cell, settings = layout.cell(one), layout.shown(one)
    stage = stages()[SEARCH]
    own = search.model_dump(include={"metric", "scheduler"})
    own |= {  # how the samples were found is in their keys
        "space": {
            name: domain.model_dump(exclude_none=True) for name, domain in search.space.items()
        }
    }
    identity = {
        "stage": stage.name,
        "version": stage.version,
        "parameters": own,
        "inputs": [node.key for node in samples],
    }
    written = {"samples": search.samples, "per": search.per, **own}
    written |= search.model_dump(include={"algorithm", "startup", "at_once"}, exclude_defaults=True)
    written["space"] = json.dumps(own["space"])  # as in the study document
    yield Node(
        key=digest(identity),
        stage=stage.name,
        variant={},
        cells=(cell,),
        parameters=SearchParameters.model_validate(search.model_dump(exclude={"drawn"})),
        name=f"{scope_name('search', cell, layout.varying, settings)}/{stage.name}",
        inputs=tuple(node.key for node in samples),
        parent=None,
        settings=settings,
        params={**scope_params(layout, stage, (cell,)), **settings, **written},
        work=stage.work(search, cell),
    )


def _sample_node(
    layout: Layout,
    one: Place,
    search: DrawnSearch,
    number: int,
    drawn: Mapping[str, Any],
    proposal: Proposal | None = None,
    inputs: tuple[str, ...] = (),
) -> Node:
    """The node of a sample: a training. The sample's number is not in its key.

    Args:
        layout: The layout of the study.
        one: The place of the cell that it trains.
        search: The search.
        number: Its number in the search.
        drawn: The settings that it tries, by dotted names; empty if they are proposed.
        proposal: How its settings follow from those of earlier samples, if they are proposed.
        inputs: Keys of these earlier samples.
    """
    cell, stage, settings = layout.cell(one), stages()[SAMPLE], layout.shown(one)
    usual = layout.chosen(stages()[TRAIN], one).parameters.model_dump()
    tried = {name.partition(".")[2]: value for name, value in drawn.items()}
    of_search = {"metric": search.metric, "scheduler": search.scheduler, "proposal": proposal}
    try:
        parameters = SampleParameters.model_validate({**usual, **tried, **of_search})
    except ValidationError as error:
        words = ", ".join(f"{name} {shown(value)}" for name, value in drawn.items())
        where = f"{layout.study.name}: search with {words}"
        raise UserError(in_words(error.errors()[0]), where=where) from error
    proposed = {name.partition(".")[2] for name in search.space} if proposal else set[str]()
    # Without a scheduler no sample is stopped, so the metric does not change drawn samples.
    unkeyed = proposed or ({"metric"} if search.scheduler == "none" else set[str]())
    identity = {
        "stage": stage.name,
        "version": stage.version,
        "parameters": parameters.model_dump(exclude_defaults=True, exclude=unkeyed),
        "subject": subject(stage, cell),
        **({"inputs": inputs} if inputs else {}),
    }
    return Node(
        key=digest(identity),
        stage=stage.name,
        variant={"sample": number},
        cells=(cell,),
        parameters=parameters,
        name=f"{scope_name('sample', cell, layout.varying, settings)}/{SAMPLE}-{number}",
        inputs=inputs,
        parent=None,
        settings={**settings, **drawn},
        params={
            **scope_params(layout, stage, (cell,)),
            **settings,
            **drawn,
            **parameters.model_dump(exclude={"proposal", *proposed}),
            "sample": number,
        },
        work=stage.work(parameters, cell),
    )


def search_findings(study: Study) -> Iterator[str]:
    """What is searched, and with how many samples."""
    search = study.search_drawn
    if search is None:
        return
    space = "; ".join(f"{name} {domain}" for name, domain in search.space.items())
    learning = [number for numbers in search.proposed for number in numbers]
    total = len(search.drawn) + len(learning)
    count = f"{total} samples" if total == search.samples else f"{total} different samples"
    if learning:
        count += f" ({len(search.drawn)} drawn, then {search.at_once} at a time by Optuna)"
    per = ", ".join(search.per)
    yield f"search: for each {per or 'study'}, {count} of {space}, by {search.metric}"
