"""Runs one job in this process: the same code for Tune trials, Ray tasks and in-process."""

import platform
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rfray.data.background import use_background
from rfray.data.dataset import UnreadableDatasetError
from rfray.data.folders import use_data_root
from rfray.device.card import PROCESSOR, Card, NoCardError
from rfray.device.exhaustion import exhausted
from rfray.device.hardware import named
from rfray.engine.answer import overrun, time_limited
from rfray.engine.job import Job, JobInput, Measurement, Outcome, Progress
from rfray.engine.meter import NoMeter, metered
from rfray.engine.progress import ProgressNote
from rfray.engine.stopping import stopped
from rfray.engine.threads import allow_threads
from rfray.errors import LostProcessError, UserError
from rfray.files import artifacts
from rfray.files.atomic import write_atomically
from rfray.models.outside import code_digest, use_network_folders
from rfray.plugins import use_plugin_files
from rfray.plugins.user_code import in_a_line
from rfray.search.draws import proposed
from rfray.stages.registry import broken_stages, stage_code, stages
from rfray.stages.stage import Input, Remark, Report, Settle, Stage, StageContext
from rfray.terminal.telling import told_to

_UNSEEN = "The GPU's utilisation is not known, so cells do not share it: pip install 'rfray[gpu]'."


def run_job(job: Job, tell: Callable[[Progress], None]) -> Outcome:
    """Run a job and publish its artifacts; a failed stage gives a failed outcome.

    A job is not computed again if its artifacts are complete (its process died after that), or if
    it has exceeded its time limit in this attempt.

    Args:
        job: What to run.
        tell: Takes the progress: new measurements, or what is being read.

    Raises:
        LostProcessError: A process that computed a part of it died.
    """
    ended = published_outcome(job.artifact_uri, job.key, job.tracking_uri) or overrun(job)
    if ended is not None:
        return ended
    try:
        card = card_for(job)
    except NoCardError as error:
        return Outcome(
            key=job.key, status="failed", reason=str(error), host=socket.gethostname(), no_card=True
        )
    try:
        return _ran(job, card, tell)
    finally:
        # Also after a failure, and only here: its traceback still held the stage's tensors.
        leave(card)


def card_for(job: Job) -> Card:
    """The device of a job; NoCardError if that is a card and there is none."""
    if job.device == "cpu":
        return PROCESSOR
    # Imported only for a card: a stage that only compares numbers needs no torch.
    from rfray.device.cuda import CudaCard

    return CudaCard(job.share)


def leave(card: Card) -> None:
    """Give back all memory of a card: the next stage on it may run in another process."""
    if card.kind == "cpu":
        return
    from rfray.data.device import forget_residents

    forget_residents()
    card.release()


def _ran(job: Job, card: Card, tell: Callable[[Progress], None]) -> Outcome:
    started = time.perf_counter()
    measurements: list[Measurement] = []
    remarks = list(job.remarks)
    settled: dict[str, object] = {}

    def report(step: int, metrics: Mapping[str, float]) -> None:
        now = time.time_ns() // 1_000_000
        new = [
            Measurement(metric=name, step=step, value=float(value), timestamp=now)
            for name, value in metrics.items()
        ]
        measurements.extend(new)
        tell(Progress(measurements=new, use=meter.use()))

    chip = card.name or f"{platform.machine()} CPU, {job.threads} threads"
    hardware = named(job.processes, chip)
    outcome = Outcome(key=job.key, status="finished", host=socket.gethostname(), hardware=hardware)
    try:
        with tempfile.TemporaryDirectory(prefix="rfray-") as scratch:
            workspace = Path(scratch)
            Path(job.checkpoint).mkdir(parents=True, exist_ok=True)
            with (
                time_limited(job),
                told_to(lambda words: tell(Progress(doing=words))),
                metered(card) if job.metered else nullcontext(NoMeter(card)) as meter,
            ):
                _run_stage(job, card, workspace, report, remarks.append, settled.update)
                used = meter.use()
                if used is not None and used.utilisation is None:
                    remarks.append(_UNSEEN)
            digests = artifacts.file_digests(workspace)
            remarks.extend(_other_than_before(_withheld_digests(job), digests))
            outcome = outcome.model_copy(
                update={
                    "measurements": measurements,
                    "seconds": time.perf_counter() - started,
                    "digests": digests,
                    "remarks": remarks,
                    "settled": settled,
                }
            )
            _publish(job, workspace, outcome)
    except LostProcessError:
        raise
    except UnreadableDatasetError as error:
        return outcome.model_copy(
            update={
                "status": "failed",
                "seconds": time.perf_counter() - started,
                "reason": str(error),
                "unreadable": error.dataset,
            }
        )
    except Exception as error:  # noqa: BLE001 (this is where any stage's failure becomes its outcome)
        return outcome.model_copy(
            update={
                "status": "failed",
                "measurements": measurements,
                "settled": settled,
                "seconds": time.perf_counter() - started,
                "reason": in_a_line(error),
                "traceback": traceback.format_exc(),
                "out_of_card_memory": exhausted(error),
            }
        )
    return outcome


def run_task(job: str) -> str:
    """Run a job given as JSON; its outcome as JSON. Its progress is a file in its folder."""
    given = Job.model_validate_json(job)
    return run_job(given, ProgressNote(Path(given.checkpoint))).model_dump_json()


def published_outcome(artifact_uri: str, key: str, tracking_uri: str) -> Outcome | None:
    """The outcome that a finished job left with its artifacts.

    None if there is none for `key`, or if an artifact does not have its digest: then the job must
    run again.
    """
    if _result_at(artifact_uri, tracking_uri) is None:
        return None
    folder = _fetched(artifact_uri, tracking_uri)
    try:
        outcome = _result_in(folder)
        artifacts.check_files(folder, outcome.digests)
    except artifacts.DamagedArtifactError:
        return None
    return outcome if outcome.key == key else None


def _withheld_digests(job: Job) -> dict[str, str]:
    """Digests of artifacts that a finished earlier attempt had, and that are not there any more."""
    # A server is asked only if there was an earlier attempt.
    path = _result_at(job.artifact_uri, job.tracking_uri) if job.attempt > 1 else None
    if path is None:
        return {}
    try:
        digests = _result_in(path.parent).digests
    except artifacts.DamagedArtifactError:
        return {}
    from rfray.tracking import artifact_names, through_outages

    there = through_outages(lambda: artifact_names(job.artifact_uri, job.tracking_uri))
    return {name: digest for name, digest in digests.items() if name not in there}


def _other_than_before(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """A remark if deleted artifacts, computed again, have other bits."""
    # A file that is not written any more comes from an earlier version of rfray.
    names = [name for name, digest in before.items() if now.get(name, digest) != digest]
    if names:
        yield (
            f"Computed again, {', '.join(names)} has other bits than the first time, when the "
            "numbers were measured."
        )


def _result_at(artifact_uri: str, tracking_uri: str) -> Path | None:
    """Local path of a run's result file; None if it has none."""
    folder = artifacts.local_path(artifact_uri)
    if folder is not None:
        return folder / artifacts.RESULT if (folder / artifacts.RESULT).is_file() else None
    # Imported only for artifacts on a server: importing MLflow takes seconds.
    from rfray.tracking import fetch_artifact, through_outages

    return through_outages(lambda: fetch_artifact(artifact_uri, artifacts.RESULT, tracking_uri))


def _fetched(artifact_uri: str, tracking_uri: str) -> Path:
    """The folder of a run's artifacts, downloaded if they are on a server."""
    folder = artifacts.local_path(artifact_uri)
    if folder is not None:
        return folder
    from rfray.tracking import fetch_artifacts, through_outages

    return through_outages(lambda: fetch_artifacts(artifact_uri, tracking_uri))


def _result_in(folder: Path) -> Outcome:
    try:
        return Outcome.model_validate_json((folder / artifacts.RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise artifacts.MissingArtifactError(
            f"'{artifacts.RESULT}' is missing in {folder}"
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise artifacts.DamagedArtifactError(f"{folder / artifacts.RESULT} is damaged") from error


def _run_stage(
    job: Job, card: Card, workspace: Path, report: Report, remark: Remark, settle: Settle
) -> None:
    allow_threads(job.threads)
    use_data_root(job.data_root)
    use_background(job.background)
    use_network_folders(map(Path, job.network_folders))
    use_plugin_files(job.plugins)
    _refuse_other_data(job)
    _refuse_other_code(job)
    stage = _stage(job)
    stage.run(
        StageContext(
            parameters=stage.parameters.model_validate(job.parameters),
            variant=job.variant,
            cells=tuple(job.cells),
            inputs=tuple(_input(job, source) for source in job.inputs),
            workspace=workspace,
            checkpoint=Path(job.checkpoint),
            earlier=None if job.earlier is None else Path(job.earlier),
            device=job.device,
            card=card,
            processes=job.processes,
            report=report,
            remark=remark,
            checkpoint_every=job.checkpoint_every,
            settle=settle,
            ends_here=lambda: stopped(job),
            propose=proposed,
        )
    )


def _stage(job: Job) -> Stage[Any]:
    """The stage of a job; UserError if its code is missing here or differs from the plan."""
    stage = stages().get(job.stage)
    if stage is None or stage_code(job.stage) != job.stage_code:
        raise broken_stages().get(job.stage) or UserError(
            f"the stage '{job.stage}' here {'differs from the plan' if stage else 'is missing'}",
            do="install the same packages on every machine, and plan again",
        )
    return stage


def _refuse_other_data(job: Job) -> None:
    """UnreadableDatasetError unless the data set is the planned one: files may have changed."""
    name = job.cells[0].dataset
    try:
        facts = job.cells[0].facts
    except UserError as error:
        raise UnreadableDatasetError(name, error) from error
    if facts.fingerprint != job.fingerprint:
        other = UserError(
            f"the data set '{facts.name}' here is {facts.fingerprint}, "
            f"but {job.fingerprint} was planned",
            do="give every machine the same files",
        )
        raise UnreadableDatasetError(name, other)


def _refuse_other_code(job: Job) -> None:
    """UserError unless the network's code is the planned one: a file may have changed."""
    arch = job.cells[0].arch
    if code_digest(arch) != job.code:
        raise UserError(
            f"the code of the network '{arch}' here differs from the plan",
            do="give every machine the same code, and plan again",
        )


def _input(job: Job, source: JobInput) -> Input:
    """The artifacts of a finished run, after checking that they are as recorded.

    Raises:
        DamagedArtifactError: They are not as recorded.
    """
    folder = _fetched(source.artifact_uri, job.tracking_uri)
    try:
        artifacts.check_files(folder, _recorded_digests(folder, source.digest))
    except artifacts.DamagedArtifactError as error:
        raise artifacts.DamagedArtifactError(
            f"the {source.stage} run {source.run_id} cannot be read: {error}; {_remedy(error)}"
        ) from error
    return Input(stage=source.stage, cell=source.cell, folder=folder, metrics=source.metrics)


def _remedy(error: artifacts.DamagedArtifactError) -> str:
    """What to do about damaged artifacts. The run is not deleted: they may be in another place."""
    if isinstance(error, artifacts.MissingArtifactError):
        return "the run is finished: bring its artifacts back to that folder"
    return (
        "put the original back from a copy of the results; without a copy, delete the run in "
        "MLflow, so that it is computed again"
    )


def _recorded_digests(folder: Path, recorded: str) -> dict[str, str]:
    """The digests in a folder's result file; DamagedArtifactError if the run recorded others."""
    digests = _result_in(folder).digests
    # Runs of early versions of rfray have no digest.
    if recorded not in ("", artifacts.digest_of(digests)):
        raise artifacts.DamagedArtifactError(
            f"{folder / artifacts.RESULT} is not as the run recorded it"
        )
    return digests


def _publish(job: Job, workspace: Path, outcome: Outcome) -> None:
    text = outcome.model_dump_json(indent=1)
    folder = artifacts.local_path(job.artifact_uri)
    if folder is not None:
        artifacts.publish(workspace, folder)
        write_atomically(folder / artifacts.RESULT, text)
        return
    from rfray.tracking import send_artifacts, through_outages

    through_outages(lambda: send_artifacts(workspace, job.run_id, job.tracking_uri))
    for path in workspace.iterdir():
        path.unlink()
    write_atomically(workspace / artifacts.RESULT, text)
    through_outages(lambda: send_artifacts(workspace, job.run_id, job.tracking_uri))
