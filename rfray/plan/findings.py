"""What a user should know about a plan before it starts, in sentences. Pure."""

from collections.abc import Iterator, Sequence

from rfray.cell import Cell
from rfray.data.registry import dataset_findings
from rfray.models.outside import AS_IT_IS, has_one_width
from rfray.plan.layout import Layout
from rfray.plan.searches import search_findings
from rfray.plan.turning import turning_findings
from rfray.plan.unread import geometry_if_read, unread_findings
from rfray.stages.registry import stages
from rfray.study import Study
from rfray.study.shelves import left_out


def plan_findings(layout: Layout, cells: Sequence[Cell]) -> Iterator[str]:
    """Everything that a user should know about a plan before it starts, in sentences."""
    for stage in layout.stages:
        if stages()[stage].scope == "seeds" and len({cell.seed for cell in cells}) < 2:
            yield f"{stage} compares seeds, and the study has one: it will not run"
    yield from left_out()
    yield from unread_findings(cells, layout.stages)
    yield from _width_findings(layout.study, cells)
    yield from _cautions(layout)
    yield from search_findings(layout.study)
    yield from turning_findings(layout.turns)
    shown = set()
    for cell in cells:
        shape = geometry_if_read(cell)
        dead = 0 if shape is None else shape.dead_fraction
        who = f"{cell.arch} at {cell.turned_words} on {cell.dataset}"
        if dead > 0 and who not in shown:
            shown.add(who)
            yield f"{who}: {dead:.1%} of the convolutions' weights are dead: they only meet padding"
    for dataset, facts in {cell.dataset: cell.facts for cell in cells}.items():
        if facts.validation_images:
            whole = facts.train_images + facts.validation_images
            held_out = f"{facts.validation_images:,} of its {whole:,} training images"
            yield f"{dataset}: {held_out} are held out for validation, the same ones for every cell"
        yield from (f"{dataset}: {finding}" for finding in dataset_findings(dataset))


def _width_findings(study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    """Networks that do not get the study's only width."""
    written = study.axes.model_dump().get("width") or []
    for arch in dict.fromkeys(cell.arch for cell in cells if has_one_width(cell.arch)):
        if len(written) == 1 and written[0] != AS_IT_IS:
            own = f"only rfray's own networks get the width {written[0]:g}"
            yield f"{arch} has a fixed width: {own}"


def _cautions(layout: Layout) -> Iterator[str]:
    """What the stages themselves say about their settings, each sentence once."""
    said = (
        (name, stages()[name].caution(layout.chosen(stages()[name], one).parameters, cell))
        for name, places in layout.places.items()
        for one, cell in ((one, layout.cell(one)) for one in places)
    )
    yield from dict.fromkeys(f"{name} {sentence}" for name, sentence in said if sentence)
