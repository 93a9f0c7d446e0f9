"""The declaration of a stage: a pure function with typed parameters, and its place in the graph.

A module in this package with a `STAGE` is a stage: there is nothing else to register. Its
declaration does not import torch, because `rfray plan` reads it; `run` imports what it needs.
"""

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
for all data sets and seeds. sample: one network with settings that a search tries. search: the
samples of cells that differ in the seed only. A study with a search has the last two.
"""

Variant = Mapping[str, float | str]
"""How two nodes of one stage and scope differ, such as `{"rate": 0.9}`; logged as params."""


@dataclass(frozen=True)
class Input:
    """A finished stage that another one reads.

    Attributes:
        folder: Local folder of its artifacts.
        metrics: The last value of each metric that it reported.
    """

    stage: str
    cell: Cell
    folder: Path
    metrics: Mapping[str, float]

    def artifact(self, name: str) -> Path:
        """Path of one artifact; FileNotFoundError if the run does not have it."""
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f"the {self.stage} run has no '{name}' (in {self.folder})")
        return path


Report = Callable[[int, Mapping[str, float]], None]
"""Takes a step (an epoch, a rank, a draw) and the metrics measured at it."""


Settle = Callable[[Mapping[str, object]], None]
"""Takes settings by name that are known only when the stage runs; they become params of the run."""


Propose = Callable[[Proposal, Sequence[Tried], str], Choice]
"""Proposes the settings of a sample, from the settings and results of earlier ones, by a metric."""


def _nobody_proposes(proposal: Proposal, tried: Sequence[Tried], metric: str) -> Choice:
    """For a stage that runs outside a sweep."""
    raise LookupError(f"there is no search to propose settings after {len(tried)} samples")


Remark = Callable[[str], None]
"""Takes a sentence that a reader of the result should know, such as what did not converge."""


@dataclass(frozen=True)
class StageContext(Generic[P]):
    """All that a stage may use when it runs.

    Attributes:
        parameters: The stage's own, from the sweep file.
        variant: Which node of the stage this is.
        cells: Its cell; for scope "seeds", the cells of the group, by seed; for "network", one of
            the cells that share the network.
        inputs: The finished stages that it reads, in the order of `cells`.
        workspace: An empty folder; every file in it becomes an artifact of the run.
        checkpoint: A folder that stays after an interrupted attempt: a restart continues from it.
        earlier: Such a folder of the same training with fewer epochs, to continue from; None if
            there is none.
        device: "cpu" or "cuda".
        card: That device, and the share of it that the stage may use.
        processes: Number of processes in which it computes, each on its own GPU; more than one
            only if `together` allows it.
        report: Records metrics.
        remark: Records a sentence; it is shown in the log and kept in the run.
        checkpoint_every: Epochs between checkpoints, if the stage saves any.
        settle: Records settings that are known only now.
        ends_here: Whether the stage should end now: a search's scheduler may stop a sample that is
            worse than others.
        propose: Proposes the settings of a search's sample from earlier samples.
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
    settle: Settle = lambda _settings: None
    ends_here: Callable[[], bool] = lambda: False
    propose: Propose = _nobody_proposes

    @property
    def cell(self) -> Cell:
        """The cell, or the first of several."""
        return self.cells[0]

    def title(self, *more: str) -> str:
        """The heading of a picture: network, data set, receptive field, and what else is given."""
        cell = self.cell
        return ", ".join([f"{cell.arch} on {cell.dataset}", cell.turned_words, *more])

    def input(self, stage: str) -> Input:
        """The input from `stage`; LookupError if there is none."""
        for candidate in self.inputs:
            if candidate.stage == stage:
                return candidate
        raise LookupError(f"this stage does not read '{stage}'")


@dataclass(frozen=True)
class Fan:
    """A list parameter that gives one node for each of its values.

    Attributes:
        parameter: The list in the stage's parameters, such as `rates`.
        variant: The name of one value, such as `rate`.
        usual: The value whose node has an empty variant, so that its key and name do not contain
            it: for a stage that had only this value in earlier versions. None if there is none.
    """

    parameter: str
    variant: str
    usual: str | None = None

    def variant_of(self, value: float | str) -> Variant:
        """The variant of the node of one value."""
        return {} if value == self.usual else {self.variant: value}

    def params_of(self, variant: Variant) -> Variant:
        """The params that a node with this variant logs, including the usual value."""
        return variant if self.usual is None else {self.variant: self.usual, **variant}


def too_few(
    setting: str, wanted: int, cell: Cell, split: Literal["training", "test"]
) -> str | None:
    """For a check: that a setting asks for more images than a split has; None if it does not."""
    available = cell.facts.train_images if split == "training" else cell.facts.test_images
    if wanted <= available:
        return None
    return f"{setting} is {wanted}, but {cell.dataset} has {available} {split} images"


@dataclass(frozen=True)
class Stage(Generic[P]):
    """The declaration of a stage.

    Attributes:
        name: Its name in sweep files, run names and tags.
        version: Raise it if the same parameters no longer give the same numbers.
        parameters: The type of its parameters.
        scope: What one node belongs to.
        reads: The stages that it reads, nearest first. A node follows each node of the nearest one
            in its scope and inherits its variant; "train" is always at the end of the chain.
        run: Computes one node.
        work: Estimated multiply-accumulate operations of one node.
        check: Why the stage is impossible on a cell, in a sentence; None if it is possible.
        caution: What a user should know about these parameters on a cell before the start, as the
            end of the sentence "train …"; None if there is nothing.
        may_read: Further stages that it reads if the study runs them.
        fan: The parameter that gives several nodes in each scope, if there is one.
        summary: What a run of it is, as the end of the sentence "vgg19_rf on cifar10, …".
        size: Bytes of the weights that one node writes, estimated with the defaults.
        headline: Its most important metric.
        micro_batch: The parameter with the number of images whose graph is in memory at a time. It
            must change results by rounding only: it is lowered if a GPU has too little memory.
        opaque: Whether it can work on a network that cannot be read (`rfray.models.opaque`), with
            only `parameters` and `multiplications` of the cell. If not, a study leaves it out for
            such a network.
        begun: Why it cannot continue a run with fewer epochs, in a sentence; None if it can.
        together: Why several GPUs cannot compute one node together, in a sentence; None if they
            can.
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
    check: Callable[[P, Cell], str | None] = lambda _parameters, _cell: None
    caution: Callable[[P, Cell], str | None] = lambda _parameters, _cell: None
    may_read: tuple[str, ...] = ()
    fan: Fan | None = None
    micro_batch: str | None = None
    size: Callable[[Variant, Cell], float] = lambda _variant, _cell: 0.0
    opaque: bool = False
    begun: Callable[[P], str | None] = lambda _parameters: "it always starts from the beginning"
    together: Callable[[P], str | None] = lambda _parameters: "it computes on one GPU"
