"""Runs of other studies that a study takes over: equal key, equal work, computed once.

A run that is taken over is a run of its own in the experiment of the study that takes it, and
names the one that computed it. So every experiment holds all of its study, whatever becomes of the
other one: what reads MLflow by `docs/mlflow.md` needs nothing else. Artifacts in folders are hard
links, which take no room; a server is sent them again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rfray.engine.job import Outcome
from rfray.engine.records import closing_tags, missing_params, run_opening
from rfray.engine.reuse import reusable
from rfray.engine.standing import Standing
from rfray.engine.worker import published_outcome
from rfray.files.artifacts import RESULT, digest_of, local_path
from rfray.files.atomic import partial_path, replace_with
from rfray.plan import Node, Plan
from rfray.tracking import (
    DIGEST_TAG,
    NOTE_TAG,
    TAKEN_FROM_STUDY_TAG,
    TAKEN_FROM_TAG,
    Elsewhere,
    LedgerWriter,
    RunOpening,
    RunRecord,
    fetch_artifacts,
    send_artifacts,
)


def take_over(
    plan: Plan, stands: Standing, ledger: LedgerWriter, renew: Callable[[], None]
) -> dict[str, str]:
    """Write what other studies have done of a plan into its own; the studies by key.

    What is not as its run recorded it is left to be computed.

    Args:
        plan: What is to be done.
        stands: What is done of it.
        ledger: Of the study.
        renew: Called between runs, to keep the study.
    """
    study = plan.study.name
    done = {key: run.run_id for key, run in stands.finished.items()}
    found = reusable(plan, stands, lambda keys: ledger.finished_elsewhere(study, keys))
    taken: dict[str, str] = {}
    for key, source in found.items():
        node = plan.nodes[key]
        if any(needed not in done for needed in node.inputs):
            continue
        renew()
        run_id = _taken(node, source, done, stands.unfinished.get(key), ledger)
        if run_id is not None:
            done[key] = run_id
            taken[key] = source.computed[0]
    return taken


def _taken(
    node: Node,
    source: Elsewhere,
    done: dict[str, str],
    earlier: RunRecord | None,
    ledger: LedgerWriter,
) -> str | None:
    """The run that a node has now; None if the other one cannot be relied on."""
    with _at_hand(source.run.artifact_uri, ledger.tracking_uri) as folder:
        outcome = published_outcome(folder.as_uri(), node.key, ledger.tracking_uri)
        if outcome is None or not _as_recorded(outcome, source.run):
            return None
        run = _opened(node, source, done, earlier, ledger)
        logged = ledger.logged_steps(run) if earlier else set()
        unlogged = [
            (entry.metric, entry.step, entry.value, entry.timestamp)
            for entry in outcome.measurements
            if (entry.metric, entry.step) not in logged
        ]
        params = missing_params({**node.params, **outcome.settled}, run)
        ledger.log(run.run_id, params, unlogged)
        _bring(folder, [*outcome.digests, RESULT], run, ledger.tracking_uri)
    ledger.end_copy(run.run_id, "FINISHED", source.run.end_time, closing_tags(outcome))
    return run.run_id


def _opened(
    node: Node,
    source: Elsewhere,
    done: dict[str, str],
    earlier: RunRecord | None,
    ledger: LedgerWriter,
) -> RunRecord:
    study, computed = source.computed
    parent = done.get(node.parent) if node.parent else None
    opening = run_opening(node, parent, source.run.tags.get("rfray.git", "unknown"), earlier)
    tags = {
        **opening.tags,
        "rfray.version": source.run.tags.get("rfray.version", ""),
        NOTE_TAG: f"{opening.tags[NOTE_TAG]} Computed by the run {computed} of the study {study}.",
        TAKEN_FROM_TAG: computed,
        TAKEN_FROM_STUDY_TAG: study,
    }
    if earlier is None:
        return ledger.open_copy(opening.name, source.run.start_time, tags)
    return ledger.reopen_run(earlier, RunOpening(opening.name, tags, opening.params))


def _as_recorded(outcome: Outcome, run: RunRecord) -> bool:
    return run.tags.get(DIGEST_TAG, "") in ("", digest_of(outcome.digests))


@contextmanager
def _at_hand(artifact_uri: str, tracking_uri: str) -> Iterator[Path]:
    """The folder of a run's artifacts, fetched for as long as it is needed."""
    local = local_path(artifact_uri)
    if local is not None:
        yield local
        return
    folder = fetch_artifacts(artifact_uri, tracking_uri)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bring(folder: Path, names: Iterable[str], run: RunRecord, tracking_uri: str) -> None:
    """Put artifacts where those of a run lie; the last one says that all are there."""
    target = local_path(run.artifact_uri)
    if target is None:
        send_artifacts(folder, run.run_id, tracking_uri)
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        partial = partial_path(target / name)
        try:
            _link_or_copy(folder / name, partial)
            replace_with(partial, target / name)
        finally:
            partial.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # files of runs are replaced, never written into
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
