"""The complete weights of one run as a safetensors file, however the run stores them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rfray import tracking
from rfray.errors import UserError, nearest
from rfray.files.artifacts import RESULT, DamagedArtifactError, check_files, local_path
from rfray.files.atomic import partial_path, replace_with
from rfray.study.naming import TRAIN
from rfray.training.weight_files import CHANGES, INITIAL, INITIAL_NOTE, MODEL, WEIGHT_FILES

if TYPE_CHECKING:
    from torch import Tensor

At = Literal["init", "trained"]


def write_weights(ledger: tracking.Ledger, study: str, run: str, at: At, out: Path) -> None:
    """Write the weights of a run to `out`, under the names of the layers.

    Args:
        ledger: Where the study's runs are.
        study: The study.
        run: The run's name, such as `vgg19_rf-digits-k3-seed0/prune-0.9`, or its MLflow identifier.
        at: For a training run: the weights before training or after it.
        out: The file.

    Raises:
        UserError: There is no such run, it has no weights, they were deleted, they are damaged, or
            the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    found = list(ledger.runs(study))
    chosen = _chosen(found, study, run)
    state = run_state(ledger, study, chosen, at)
    partial = partial_path(out)
    try:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)
        replace_with(partial, out)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the file cannot be written: {error}", where=str(out), do="name another"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _chosen(runs: Sequence[tracking.RunRecord], study: str, wanted: str) -> tracking.RunRecord:
    finished = [run for run in runs if run.status == "FINISHED"]
    for run in reversed(finished):
        if wanted in (run.name, run.run_id):
            return run
    names = [run.name for run in finished]
    advice = nearest(wanted, names) if names else "it has no finished run yet"
    raise UserError(f"no finished run '{wanted}'", where=study, do=advice)


def run_state(
    ledger: tracking.Ledger, study: str, run: tracking.RunRecord, at: At
) -> dict[str, Tensor]:
    """The weights of a finished run by name, on the CPU.

    Raises:
        UserError: It has no weights, they are missing, or they are damaged.
    """
    from rfray.training.changes import OtherWeightsError
    from rfray.training.weights import changed_state, initial_state, load_whole, noted_cell

    trains = run.tags.get(tracking.STAGE_TAG) == TRAIN
    if at == "init" and not trains:
        raise UserError("only a training run has initial weights", where=run.name, do="name one")
    try:
        folder = _checked(ledger, run)
        if at == "init":
            noted = (folder / INITIAL_NOTE).is_file()
            return (
                initial_state(noted_cell(folder), folder) if noted else load_whole(folder / INITIAL)
            )
        if (folder / MODEL).is_file():
            return load_whole(folder / MODEL)
        parent = next(
            (one for one in ledger.runs(study) if one.run_id == run.tags.get(tracking.PARENT_TAG)),
            run,
        )
        return changed_state(folder, _checked(ledger, parent))
    except (DamagedArtifactError, OtherWeightsError, FileNotFoundError) as error:
        raise UserError(
            str(error),
            where=run.name,
            do="bring the files back, or compute the run again with `rfray redo`",
        ) from error


def _checked(ledger: tracking.Ledger, run: tracking.RunRecord) -> Path:
    """The folder of a run's artifacts, after checking that its weights are as recorded.

    Raises:
        UserError: The run has no weights, or they were deleted.
        DamagedArtifactError: The weights are not as recorded.
    """
    if tracking.withheld_of(run).intersection(WEIGHT_FILES):
        raise UserError(
            "its weights were deleted, or were not in the archive that it was imported from",
            where=run.name,
            do="import an archive that has them, or compute it again with `rfray redo`",
        )
    folder = local_path(run.artifact_uri)
    if folder is None:
        with tracking.store_answers(ledger.tracking_uri):
            folder = tracking.fetch_artifacts(run.artifact_uri, ledger.tracking_uri)
    try:
        recorded = json.loads((folder / RESULT).read_text(encoding="utf-8"))["digests"]
    except (OSError, ValueError, KeyError) as error:
        raise DamagedArtifactError(f"'{RESULT}' is missing or damaged in {folder}") from error
    known = (*WEIGHT_FILES, INITIAL_NOTE)
    weights = {name: digest for name, digest in recorded.items() if name in known}
    if not {MODEL, CHANGES} & set(weights):
        raise UserError("this run has no weights", where=run.name, do="name one that trains")
    check_files(folder, weights)
    return folder
