"""The Python API, which the command line calls too: studies, plans, sweeps, results, frames.

Slow imports are inside the functions that need them. A mistake of the user is a `UserError` of one
line; nothing here prints it or ends the process.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rfray.errors import UserError, nearest
from rfray.storage import Storage, storage_at
from rfray.terminal import chatter
from rfray.terminal.interruption import Interruption, interrupt

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType
    from torch import nn

    from rfray import study as documents
    from rfray.driver.executors import Workers
    from rfray.engine.frontier import State
    from rfray.engine.standing import Standing
    from rfray.plan import Node, Plan
    from rfray.tracking import Elsewhere, Ledger, RunRecord

__all__ = ["Planned", "Result", "Study", "UserError", "frame", "plan", "sweep"]

_WIDTH = 120

chatter.miss_no_widgets()
# Ray reads this when it is imported. After an interruption, Tune's thread may still call Ray when
# it has already been shut down: Ray would then start again by itself.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")


class Study:
    """A study: axes, protocol, stages. Its arguments are the keys of a sweep file.

        >>> rfray.Study(
        ...     name="fields",
        ...     axes={"dataset": ["digits"], "arch": ["vgg19_rf"], "kernel_size": [2], "seed": [0]},
        ...     train={"epochs": 2},
        ... )

    Files of networks and plug-ins are looked for in the working directory.

    Args:
        name: Name of the study and of its MLflow experiment.
        axes: What varies: a list of values for each setting, by its dotted name.
        sections: Any other key of a sweep file: `train={"epochs": 2}`, `hessian={}`.

    Raises:
        UserError: A key, a type or a value is wrong.

    Attributes:
        document: The whole study, typed, with every default.
    """

    document: documents.Study

    def __init__(self, *, name: str, axes: Mapping[str, Sequence[Any]], **sections: Any) -> None:
        from rfray.study.sweep_file import make_study

        self._take(make_study({"name": name, "axes": axes, **sections}))

    @classmethod
    def load(cls, sweep: str | Path | None = None, *overrides: str) -> Study:
        """The study of a sweep file.

        Args:
            sweep: A path, or the name of a shipped file; None takes RFRAY_SWEEP, else `quickstart`.
            overrides: Changes, such as `axes.seed=[0,1]` or `hessian=false`.

        Raises:
            UserError: The file does not exist, the study is not valid, or a change is malformed.
        """
        from rfray.study.sweep_file import load_study

        study = cls.__new__(cls)
        study._take(load_study(sweep, overrides))
        return study

    @property
    def name(self) -> str:
        """Its name."""
        return self.document.name

    def use(self) -> None:
        """Have this process use the data, plug-ins and networks of this study.

        Every function of `rfray` that gets a study calls this, so one process may use several.
        """
        from rfray.data.background import use_background
        from rfray.data.folders import use_data_root
        from rfray.models.outside import use_network_folders
        from rfray.plugins import use_plugin_files

        use_network_folders(self._folders)
        use_plugin_files(self._plugins)
        use_data_root(self.document.data.root)
        use_background(self.document.data.background)

    def _take(self, document: documents.Study) -> None:
        """Remember a study that was just read, and the files that were used to read it."""
        from rfray.models.outside import network_folders_in_use
        from rfray.plugins import plugin_files_in_use

        self.document = document
        self._folders = [Path(folder) for folder in network_folders_in_use()]
        self._plugins = plugin_files_in_use()

    def __repr__(self) -> str:
        axes = ", ".join(f"{name}={values}" for name, values in self.document.grid.axes.items())
        return f"Study {self.name!r}: {axes}"


@dataclass(frozen=True, repr=False)
class Planned:
    """The runs of a study, and which of them are done. Notebooks and `print` show a table.

    Attributes:
        plan: Its networks (`cells`), runs (`nodes`), and what a user should know (`findings`).
        standing: The study's runs in the tracking store.
        reusable: Runs of other studies that this study can reuse, by key.
        notes: What a user should know about the stored results, in sentences.
    """

    study: Study
    plan: Plan
    standing: Standing
    reusable: Mapping[str, Elsewhere]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What `rfray plan --json` prints."""
        from rfray.commands.plan_report import plan_json

        self.study.use()
        return plan_json(self.plan, self.standing.finished, self._taken, self.notes)

    def as_text(self) -> RenderableType:
        """What `rfray plan` prints, for rich."""
        from rfray.commands.plan_report import plan_text

        self.study.use()
        return plan_text(self.plan, self.standing.finished, self._taken, self.notes)

    @property
    def _taken(self) -> dict[str, str]:
        return {key: source.computed[0] for key, source in self.reusable.items()}

    def __repr__(self) -> str:
        runs = len(self.plan.nodes)
        to_do = runs - len(self.standing.finished) - len(self.reusable)
        networks = len(self.plan.cells)
        return f"Planned {self.study.name!r}: {networks} networks, {runs} runs, {to_do} to do"

    def __str__(self) -> str:
        from rich.console import Console

        text = StringIO()
        Console(file=text, width=_WIDTH).print(self.as_text())
        return text.getvalue()

    def _repr_html_(self) -> str:
        from rfray.terminal.notebook import html

        return html(self.as_text())


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a sweep.

    Attributes:
        storage: Where results are: `root`, the folder, and `tracking_uri`, the tracking store.
        states: State of each run, by its key.
    """

    study: Study
    plan: Plan
    storage: Storage
    states: Mapping[str, State]

    @property
    def finished(self) -> int:
        """Number of runs that are done, in this sweep or before."""
        return self._counts["done"]

    @property
    def failed(self) -> int:
        """Number of runs that failed; `failures` says why."""
        return self._counts["failed"]

    @property
    def skipped(self) -> int:
        """Number of runs that were not started because a run before them failed."""
        return self._counts["skipped"]

    @property
    def complete(self) -> bool:
        """Whether every run is done."""
        return self.finished == len(self.plan.nodes)

    def failures(self) -> dict[str, str]:
        """For each failed run, by name, why it failed."""
        runs = self._standing().unfinished
        failed = (key for key, state in self.states.items() if state.value == "failed")
        return {
            self.plan.nodes[key].name: runs[key].tags.get("rfray.error", "")
            for key in failed
            if key in runs
        }

    def load(self, run: str, at: Literal["init", "trained"] = "trained") -> nn.Module:
        """The network of a run with its weights, on the CPU, in evaluation mode.

        It takes float images (n, 3, height, width), normalised as for training, and gives logits
        (n, classes).

        Args:
            run: Name of the run, such as `vgg19_rf-digits-k3-seed0/train` or `…/prune-0.9`.
            at: For a training run: the weights before training or after it.

        Raises:
            UserError: There is no such run, it is not done, or it has no weights.
        """
        from rfray.commands.weights_file import run_state
        from rfray.training.weights import module_with

        node = self._node(run)
        record = self._standing().finished.get(node.key)
        if record is None:
            raise UserError("this run is not done", where=run, do="sweep the study again")
        self.study.use()
        state = run_state(open_ledger(self.storage), self.study.name, record, at)
        return module_with(node.cells[0], state, "cpu").eval()

    def _node(self, run: str) -> Node:
        named = {node.name: node for node in self.plan.nodes.values()}
        if run not in named:
            raise UserError(f"no run '{run}'", where=self.study.name, do=nearest(run, named))
        return named[run]

    def _standing(self) -> Standing:
        from rfray.engine.standing import standing

        return standing(self.plan, runs_there(self.plan, self.storage))

    @cached_property
    def _counts(self) -> Counter[str]:
        return Counter(state.value for state in self.states.values())

    def __repr__(self) -> str:
        words = f"{self.finished} of {len(self.plan.nodes)} runs done"
        if not self.complete:
            words += f", {self.failed} failed, {self.skipped} skipped"
        return f"Result {self.study.name!r}: {words}, in {self.storage.root}"


def plan(
    study: Study, storage: str | Path | None = None, *, tracking_uri: str | None = None
) -> Planned:
    """What would run, which of it is done, and what is wrong with it. Starts nothing.

    Args:
        study: The study.
        storage: Storage folder; None takes RFRAY_STORAGE, else `./rfray-results`. It need not
            exist.
        tracking_uri: Tracking store; None takes MLFLOW_TRACKING_URI, else a database in the folder.

    Raises:
        UserError: The study cannot run, or the tracking store does not answer.
    """
    from rfray.engine.longer import longer_words
    from rfray.engine.standing import reusable, standing

    expanded, place = expand(study), storage_at(storage, tracking_uri)
    stands = standing(expanded, runs_there(expanded, place))
    found = reusable(expanded, stands, partial(_found_elsewhere, expanded, place))
    done = {*stands.finished, *found}
    missing = (node for key, node in expanded.nodes.items() if key not in done)
    notes = tuple(longer_words(missing, place.checkpoints, stands.outside))
    return Planned(study, expanded, stands, found, notes)


def sweep(
    study: Study,
    storage: str | Path | None = None,
    *,
    tracking_uri: str | None = None,
    address: str | None = None,
) -> Result:
    """Run the missing runs of a study on Ray. Called again, it resumes or extends the study.

    A failed run raises nothing: all others run, and the result says which failed. The progress is
    shown as on a terminal.

    Args:
        study: The study.
        storage: Storage folder; None takes RFRAY_STORAGE, else `./rfray-results`.
        tracking_uri: Tracking store; None takes MLFLOW_TRACKING_URI, else a database in the folder.
        address: Ray cluster to join, `auto` for the one on this machine; None starts Ray here and
            stops it at the end.

    Raises:
        UserError: Nothing ran, because the study, the data, the storage or Ray has a problem.
        KeyboardInterrupt: Control-C, or the notebook's stop button. Finished runs are kept.
    """
    from rfray.driver.executors import on_ray

    place = storage_at(storage, tracking_uri)
    try:
        with Interruption(interrupt) as interruption:
            return sweep_on(on_ray(address), study, place, interruption)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("finished runs are kept; the same call resumes") from None


def frame(
    study: Result | Study | str,
    storage: str | Path | None = None,
    *,
    tracking_uri: str | None = None,
) -> pd.DataFrame:
    """The finished runs of a study as a table: one row per run, with settings and last metrics.

    The columns are those of `rfray.analysis.StudyFrame.rows`. Only MLflow is read.

    Args:
        study: A result, a study, or a study's name.
        storage: Storage folder; None takes that of the result, else as for `sweep`.
        tracking_uri: Tracking store; None likewise.

    Raises:
        UserError: There are no results, or none of that study.
    """
    from rfray.analysis import read_frame
    from rfray.tracking import store_answers

    place = storage_at(storage, tracking_uri)
    if isinstance(study, Result):
        place = study.storage if storage is None and tracking_uri is None else place
        study = study.study
    ledger = open_ledger(place)
    with store_answers(place.tracking_uri):
        return read_frame(ledger, study if isinstance(study, str) else study.name).rows


# For the command line only


def expand(study: Study) -> Plan:
    """The plan of a study, without what is done; UserError if the study cannot run."""
    from rfray.plan import make_plan
    from rfray.terminal.reading import reading_shown

    study.use()  # before the plan, which reads the files of an imagefolder
    with reading_shown():
        return make_plan(study.document)


def sweep_on(workers: Workers, study: Study, place: Storage, interruption: Interruption) -> Result:
    """`sweep` on given workers, until the user interrupts."""
    from rfray.driver.sweep_run import sweep_study
    from rfray.terminal.consoles import plain_console, usual_console

    expanded = expand(study)
    states = sweep_study(
        expanded,
        place,
        lambda: workers.executor(expanded, place.tune, interruption.listen),
        usual_console() if workers.leaves_the_terminal else plain_console(),
        lambda: interruption.asked,
        workers.check_data,
    )
    return Result(study, expanded, place, states)


def open_ledger(place: Storage) -> Ledger:
    """The tracking store; UserError if it does not exist or does not answer."""
    if place.is_new:
        raise UserError(
            "there are no results here",
            where=str(place.root),
            do="run a sweep first, or name another folder with --storage DIR",
        )
    wait_seconds_not_minutes()
    from rfray.driver.lease import settle_undriven
    from rfray.tracking import Ledger, check_store

    check_store(place.tracking_uri)
    for moved in settle_undriven(place.tracking_uri):
        sys.stderr.write(f"note: {moved}\n")
    return Ledger(place.tracking_uri)


def runs_there(expanded: Plan, place: Storage) -> list[RunRecord]:
    """The study's runs; none if the storage or the study does not exist yet."""
    if place.is_new:
        return []
    ledger = open_ledger(place)
    name = expanded.study.name
    return list(ledger.runs(name)) if name in ledger.studies() else []


def wait_seconds_not_minutes() -> None:
    """Have MLflow's client give up after two retries. Its seven take four minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


def _found_elsewhere(expanded: Plan, place: Storage, keys: Collection[str]) -> dict[str, Elsewhere]:
    """What other studies of a store have done; nothing if the storage does not exist yet."""
    if place.is_new:
        return {}
    return open_ledger(place).finished_elsewhere(expanded.study.name, keys)
