"""What a stage is: a pure function with typed parameters, and its place in the graph.

A module in this package that holds a `STAGE` is a stage: there is nothing else to register. It
declares itself without importing torch, since `rfray plan` reads the declarations; `run` imports
what it computes with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from rfray.cell import Cell
from rfray.device.card import PROCESSOR, Card
from rfray.parameters import Parameters
from rfray.search.space import Choice, Proposal, Tried

P = TypeVar("P", bound=Parameters)

Scope = Literal["cell", "seeds", "network", "sample", "search"]
"""What one node of a stage belongs to.

cell: one trained network. seeds: all seeds of otherwise equal cells. network: an untrained network,
whatever its data set and seed. sample: one network with some of a search's settings. search: the
samples of cells that differ in their seed alone; the study plans both where it has a search.
"""

Variant = Mapping[str, float | str]
"""What tells two nodes of one stage and scope apart, such as `{"rate": 0.9}`; logged as params."""


@dataclass(frozen=True)
class Input:
    """A finished stage that another one reads.

    Attributes:
        stage: Its stage's name.
        cell: Its cell.
        folder: Local folder that holds its artifacts.
        metrics: The last value of each metric that it reported.
    """

    stage: str
    cell: Cell
    folder: Path
    metrics: Mapping[str, float]

    def artifact(self, name: str) -> Path:
        """Path of one artifact; FileNotFoundError, naming it, if the run does not hold it."""
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(
                f"the {self.stage} run holds no '{name}' (looked in {self.folder})"
            )
        return path


Report = Callable[[int, Mapping[str, float]], None]
"""Takes a step (an epoch, a rank, a draw) and the metrics measured at it."""


Settle = Callable[[Mapping[str, object]], None]
"""Takes settings by name that were found only as the stage ran; the run records them as params."""


def _nothing_to_settle(settings: Mapping[str, object]) -> None:
    """Of a stage that is run on its own: nobody records."""
    del settings


def _never() -> bool:
    return False


Propose = Callable[[Proposal, Sequence[Tried], str], Choice]
"""What a sample should try, from what those before it tried and came to, by a metric."""


def _nobody_proposes(proposal: Proposal, tried: Sequence[Tried], metric: str) -> Choice:
    """Of a stage that is run on its own."""
    raise LookupError(f"nobody proposes what to try behind {len(tried)} samples by {metric}")


Remark = Callable[[str], None]
"""Takes a sentence that whoever reads the result should know, such as what did not converge."""


@dataclass(frozen=True)
class StageContext(Generic[P]):
    """All that a stage may know when it runs.

    Attributes:
        parameters: The stage's own, as the sweep file gives them.
        variant: Which node of the stage this is.
        cells: Its cell; for scope "seeds", the cells of the group, by seed; for "network", a cell
            that stands for all that share the network.
        inputs: The finished stages that it reads, in the order of `cells`.
        workspace: An empty folder; every file left in it becomes an artifact of the run.
        checkpoint: A folder that outlives an interrupted attempt: a restart continues from it.
        earlier: Such a folder of the same training with fewer epochs, to go on from; None if there
            is none.
        device: "cpu" or "cuda".
        card: That device, and the share of it that the stage was given.
        processes: In how many processes it computes, each on a card of its own; more than one
            where `together` allows it.
        report: Record metrics.
        remark: Record a sentence beside them; it is shown in the log and kept in the run.
        checkpoint_every: Epochs between checkpoints, of a stage that saves any.
        settle: Record settings that were found only now.
        ends_here: Whether the stage should end with what it has: a search's scheduler says so of
            a sample that has fallen behind.
        propose: What a sample of a search should try that learns from the samples before it.
    """

    parameters: P
    variant: Variant
    cells: tuple[Cell, ...]
    inputs: tuple[Input, ...]
    workspace: Path
    checkpoint: Path
    device: str
    report: Report
    remark: Remark
    checkpoint_every: int = 1
    earlier: Path | None = None
    processes: int = 1
    card: Card = PROCESSOR
    settle: Settle = _nothing_to_settle
    ends_here: Callable[[], bool] = _never
    propose: Propose = _nobody_proposes

    @property
    def cell(self) -> Cell:
        """The cell, where there is one."""
        return self.cells[0]

    def input(self, stage: str) -> Input:
        """The one input that is of `stage`; LookupError if there is none."""
        for candidate in self.inputs:
            if candidate.stage == stage:
                return candidate
        raise LookupError(f"this stage reads no '{stage}'")


@dataclass(frozen=True)
class Fan:
    """A list parameter that makes one node for each of its values.

    Attributes:
        parameter: The list in the stage's parameters, such as `rates`.
        variant: What one value is called, such as `rate`.
        usual: The value whose node has an empty variant, so that its key and its name say nothing
            of it: that of a stage which fanned out only later. None if there is none.
    """

    parameter: str
    variant: str
    usual: str | None = None

    def variant_of(self, value: float | str) -> Variant:
        """The variant of the node of one value."""
        return {} if value == self.usual else {self.variant: value}

    def params_of(self, variant: Variant) -> Variant:
        """What a node with this variant logs: the usual value is written out."""
        return variant if self.usual is None else {self.variant: self.usual, **variant}


def nothing_to_refuse(parameters: Parameters, cell: Cell) -> str | None:
    """The check of a stage that can run on every cell."""
    del parameters, cell
    return None


def nothing_to_caution(parameters: Parameters, cell: Cell) -> str | None:
    """The caution of a stage that does what anyone would expect."""
    del parameters, cell
    return None


def nothing_to_keep(variant: Variant, cell: Cell) -> float:
    """The size of a stage that leaves no weights."""
    del variant, cell
    return 0.0


def on_one_card(parameters: Parameters) -> str | None:
    """What keeps a stage from several GPUs that knows nothing of them."""
    del parameters
    return "it computes on one GPU"


def nothing_begun(parameters: Parameters) -> str | None:
    """Of a stage that always starts anew."""
    del parameters
    return "it starts anew"


@dataclass(frozen=True)
class Stage(Generic[P]):
    """The declaration of a stage.

    Attributes:
        name: Its name in sweep files, run names and tags.
        version: Raise it when the same parameters no longer give the same numbers.
        parameters: Its parameters' type.
        scope: What one node belongs to.
        reads: The stages that it follows, nearest first. A node follows each node of the nearest
            one in its scope and inherits its variant; "train" is always at the end of the chain.
        run: Computes one node.
        work: Estimated multiply-accumulate operations of one node.
        check: What makes the stage impossible on a cell, in a sentence; None if nothing does.
        caution: What a user should know of these parameters on a cell before anything starts, to
            end the sentence "train …"; None if there is nothing.
        may_read: Stages that it reads besides where the study runs them.
        fan: The parameter that makes several nodes in each scope, if there is one.
        summary: What a run of it is, to end the sentence "vgg19_rf on cifar10, …".
        size: Bytes that the weights take which one node leaves, reckoned with the defaults.
        headline: The metric that says in one number how it went.
        micro_batch: The parameter that says of how many images at a time graphs are held, where
            fewer change nothing but rounding: that is done where a card's memory is used up.
        opaque: Whether it can work on a network that cannot be read (`rfray.models.opaque`), asking
            of the cell nothing but `parameters` and `multiplications`. A study leaves a stage that
            cannot out for such a network.
        begun: What keeps it from going on from one with fewer epochs, in a sentence; None if
            nothing does.
        together: What keeps several GPUs from computing one node together, in a sentence; None if
            nothing does.
    """

    name: str
    version: int
    parameters: type[P]
    scope: Scope
    reads: tuple[str, ...]
    run: Callable[[StageContext[P]], None]
    work: Callable[[P, Cell], float]
    summary: str
    headline: str
    check: Callable[[P, Cell], str | None] = nothing_to_refuse
    caution: Callable[[P, Cell], str | None] = nothing_to_caution
    may_read: tuple[str, ...] = ()
    fan: Fan | None = None
    micro_batch: str | None = None
    size: Callable[[Variant, Cell], float] = nothing_to_keep
    opaque: bool = False
    begun: Callable[[P], str | None] = nothing_begun
    together: Callable[[P], str | None] = on_one_card
