"""search: the settings of the best sample of a group, on the validation images."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rfray.parameters import NOTHING_TWICE, Parameters, is_number
from rfray.search.space import Choice, Domain, at_edge, best, combinations, metric_problem, rounds
from rfray.stages.sample import DIVERGED, STOPPED, settings_tried
from rfray.stages.stage import Input, Stage, StageContext
from rfray.stages.train import CHOSEN_FILE
from rfray.training.protocol import Count

SAMPLES_FILE = "samples.csv"


class SearchParameters(Parameters):
    """Settings of `train` to search: each sample tries some of them, and the best are chosen."""

    space: dict[str, Domain] = Field(
        description="What each searched setting of `train` is drawn from, by its dotted name."
    )
    samples: Count = Field(
        default=16, description="Number of samples of each search; all searches have the same ones."
    )
    per: Annotated[list[str], NOTHING_TWICE] = Field(
        default=["dataset", "arch", "kernel_size"],
        description="There is one search for each combination of these axes; its cells may differ "
        "only in these and the seed. Samples train with the first seed.",
    )
    metric: str = Field(
        default="validation_accuracy",
        description="The metric that decides: `validation_accuracy` or `validation_loss`, after "
        "the last epoch of a sample, or of the epoch that its `checkpoint` keeps.",
    )
    algorithm: Literal["random", "optuna"] = Field(
        default="random",
        description="random: every sample is drawn. optuna: the first `startup` samples are drawn; "
        "Optuna proposes the others from the results of the earlier ones (its tree-structured "
        "Parzen estimator, Bergstra et al. 2011, through Ray Tune); needs `rfray[optuna]`.",
    )
    startup: Count = Field(
        default=8, description="For optuna: number of samples that are drawn before it proposes."
    )
    at_once: Count = Field(
        default=4,
        description="For optuna: number of samples of a search that it proposes together. They run "
        "at the same time, and the next ones learn from them.",
    )
    scheduler: Literal["none", "asha"] = Field(
        default="none",
        description="asha: samples that are worse than others of their search are stopped early "
        "(Ray Tune's ASHA scheduler, Li et al. 2020). none: every sample is trained to its end.",
    )

    @field_validator("space")
    @classmethod
    def _searches_something(cls, space: dict[str, Domain]) -> dict[str, Domain]:
        if not space:
            raise ValueError("the space is empty: name a setting, such as train.learning_rate")
        return space

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        problem = metric_problem(metric)
        if problem is not None:
            raise ValueError(problem)
        return metric


class DrawnSearch(SearchParameters):
    """A search with its drawn samples: each is a choice of all searched settings."""

    drawn: list[dict[str, Any]]

    @property
    def proposed(self) -> list[range]:
        """The numbers of the samples that are proposed, as one range for each round."""
        if self.algorithm == "random":
            return []
        samples = int(min(self.samples, combinations(self.space)))
        return rounds(len(self.drawn), samples, self.at_once)


def run(context: StageContext[SearchParameters]) -> None:
    """Choose, report the chosen settings and their metrics, write `chosen.json`, `samples.csv`.

    Raises:
        RuntimeError: Every sample has diverged.
    """
    parameters = context.parameters
    tried = [settings_tried(source, parameters.space) for source in context.inputs]
    _write_samples(context.workspace / SAMPLES_FILE, parameters, context.inputs, tried)
    sound = [place for place, source in enumerate(context.inputs) if DIVERGED not in source.metrics]
    if not sound:
        raise RuntimeError("every sample of this search has diverged (search smaller settings)")
    metric = parameters.metric
    values = [context.inputs[place].metrics[metric] for place in sound]
    place = sound[best(values, metric)]
    chosen, winner = tried[place], context.inputs[place]
    ends = {name: at_edge(chosen[name], (one[name] for one in tried)) for name in chosen}
    edges = {name: end for name, end in ends.items() if end is not None}
    context.workspace.joinpath(CHOSEN_FILE).write_text(json.dumps(chosen), encoding="utf-8")
    context.settle(chosen)
    numbers = {name: value for name, value in chosen.items() if is_number(value)}
    context.report(
        0,
        {
            **{name: winner.metrics[name] for name in ("validation_loss", "validation_accuracy")},
            **numbers,
            "samples_tried": len(tried),
            "samples_diverged": len(tried) - len(sound),
            "samples_stopped": sum(STOPPED in source.metrics for source in context.inputs),
            "settings_at_edge": len(edges),
        },
    )
    for name, end in edges.items():
        context.remark(
            f"{name} = {chosen[name]:g} is the {end} value that was tried: a better one may be "
            "outside the range."
        )


def _write_samples(
    path: Path, parameters: SearchParameters, inputs: Sequence[Input], tried: Sequence[Choice]
) -> None:
    """One line for each sample: its settings, its results, whether it was trained to its end."""
    measured = ["validation_accuracy", "validation_loss", STOPPED, DIVERGED]
    with path.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow([*parameters.space, *measured])
        for choice, source in zip(tried, inputs, strict=True):
            values = [json.dumps(choice[name]) for name in parameters.space]
            lines.writerow([*values, *(source.metrics.get(name, "") for name in measured)])


STAGE = Stage(
    name="search",
    version=1,
    parameters=SearchParameters,
    scope="search",
    reads=("sample",),
    run=run,
    work=lambda _parameters, _cell: 1.0,  # almost none
    summary="the settings of its best sample, on the validation images",
    headline="validation_accuracy",
    opaque=True,
)
