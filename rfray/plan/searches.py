"""The nodes of a search: its samples, and the one that chooses among them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from rfray.errors import UserError, in_words
from rfray.grid import Place, place, varying
from rfray.plan.graph import Node
from rfray.plan.identity import subject
from rfray.plan.keys import digest
from rfray.plan.layout import Layout
from rfray.plan.params import scope_params
from rfray.search.space import Proposal
from rfray.stages.registry import stages
from rfray.stages.sample import SampleParameters
from rfray.stages.search import DrawnSearch, SearchParameters
from rfray.study import Study
from rfray.study.naming import SAMPLE, SEARCH, TRAIN, scope_name, shown


def searched_groups(layout: Layout) -> Iterator[tuple[Place, ...]]:
    """The places of training that each search chooses for; nothing without a search.

    Raises:
        UserError: The cells of one search differ in more than their seed.
    """
    search = layout.study.search_drawn
    if search is None:
        return
    for name in search.per:
        if name == "seed" or name not in layout.study.grid.names:
            raise UserError(
                f"'{name}' is {'what each search has in common' if name == 'seed' else 'no axis'}",
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
    """The samples of one search, and behind them the search itself."""
    search = layout.study.search_drawn
    assert search is not None  # noqa: S101 (there are no groups otherwise)
    samples = [
        _sample_node(layout, one, search, number, drawn)
        for number, drawn in enumerate(search.drawn)
    ]
    for numbers in search.proposed:
        earlier = tuple(node.key for node in samples)
        samples += [_proposed_node(layout, one, search, number, earlier) for number in numbers]
    yield from samples
    cell, settings = layout.cell(one), layout.shown(one)
    stage = stages()[SEARCH]
    own = search.model_dump(include={"metric", "scheduler"})
    own |= {  # how samples were found, their keys say
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
    written["space"] = json.dumps(own["space"])  # as the study document says it
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
    layout: Layout, one: Place, search: DrawnSearch, number: int, drawn: Mapping[str, Any]
) -> Node:
    """A training with what a drawn sample tries; its number is no part of its key."""
    tried = {name.partition(".")[2]: value for name, value in drawn.items()}
    usual = layout.chosen(stages()[TRAIN], one).parameters.model_dump()
    given = {**usual, **tried, "metric": search.metric, "scheduler": search.scheduler}
    try:
        parameters = SampleParameters.model_validate(given)
    except ValidationError as error:
        words = ", ".join(f"{name} {shown(value)}" for name, value in drawn.items())
        where = f"{layout.study.name}: search with {words}"
        raise UserError(in_words(error.errors()[0]), where=where) from error
    # Samples that are trained to their end are the same, whatever they are compared by.
    unsaid = {"metric"} if search.scheduler == "none" else set[str]()
    return _node_of_sample(layout, one, number, parameters, unsaid=unsaid, drawn=drawn, inputs=())


def _proposed_node(
    layout: Layout, one: Place, search: DrawnSearch, number: int, earlier: tuple[str, ...]
) -> Node:
    """A training with what follows from the samples before it."""
    place = next(n.index(number) for n in search.proposed if number in n)
    proposal = Proposal(space=dict(search.space), startup=search.startup, place=place)
    usual = layout.chosen(stages()[TRAIN], one).parameters.model_dump()
    given = {**usual, "metric": search.metric, "scheduler": search.scheduler, "proposal": proposal}
    parameters = SampleParameters.model_validate(given)
    unsaid = {name.partition(".")[2] for name in search.space}
    return _node_of_sample(layout, one, number, parameters, unsaid=unsaid, drawn={}, inputs=earlier)


def _node_of_sample(
    layout: Layout,
    one: Place,
    number: int,
    parameters: SampleParameters,
    *,
    unsaid: set[str],
    drawn: Mapping[str, Any],
    inputs: tuple[str, ...],
) -> Node:
    """A sample's node.

    Args:
        layout: The study's.
        one: The place of the cell that it trains.
        number: Its number in its search.
        parameters: With what it tries, where that is known.
        unsaid: Parameters that are no part of its key.
        drawn: What it tries, by dotted names; empty where it follows from the samples before it.
        inputs: The keys of those.
    """
    cell, stage = layout.cell(one), stages()[SAMPLE]
    identity = {
        "stage": stage.name,
        "version": stage.version,
        "parameters": parameters.model_dump(exclude_defaults=True, exclude=unsaid),
        "subject": subject(stage, cell),
    }
    settings = layout.shown(one)
    logged = parameters.model_dump(exclude={"proposal"} | (unsaid if inputs else set()))
    return Node(
        key=digest(identity | ({"inputs": inputs} if inputs else {})),
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
            **logged,
            "sample": number,
        },
        work=stage.work(parameters, cell),
    )


def search_findings(study: Study) -> Iterator[str]:
    """What is searched, and how thoroughly."""
    search = study.search_drawn
    if search is None:
        return
    space = "; ".join(f"{name} {domain}" for name, domain in search.space.items())
    learning = [number for numbers in search.proposed for number in numbers]
    few = len(search.drawn) + len(learning)
    count = f"{few} samples" if few == search.samples else f"{few} samples, all that differ"
    if learning:
        count += f" ({len(search.drawn)} drawn, then {search.at_once} at a time by Optuna)"
    per = ", ".join(search.per)
    yield f"search: for each {per or 'study'}, {count} of {space}, by {search.metric}"
