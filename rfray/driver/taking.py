"""Reuse: a study takes over finished runs of other studies with the same key.

A reused run is copied into the experiment of the study, with tags that name the run that computed
it. So each experiment is complete, even if the other study is deleted. Artifacts in folders become
hard links, which take no room; to a server they are sent again.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rfray import tracking
from rfray.engine.records import closing_tags, missing_measurements, missing_params, run_opening
from rfray.engine.standing import Standing, reusable
from rfray.engine.worker import published_outcome
from rfray.files.artifacts import RESULT, digest_of, local_path
from rfray.files.atomic import partial_path, replace_with
from rfray.plan import Node, Plan


def take_over(
    plan: Plan, stands: Standing, ledger: tracking.LedgerWriter, renew: Callable[[], None]
) -> dict[str, str | None]:
    """Copy the runs that other studies have done of a plan; returns, by key, the other study.

    `renew`, which renews the lease, is called before each run. A run whose artifacts are not as
    recorded is not reused. If `rfray clean` deletes artifacts at the same moment, the copied run
    stays open, to be computed, and the result has None for it.
    """
    study = plan.study.name
    done = {key: run.run_id for key, run in stands.finished.items()}
    found = reusable(plan, stands, lambda keys: ledger.finished_elsewhere(study, keys))
    taken: dict[str, str | None] = {}
    for key, source in found.items():
        node = plan.nodes[key]
        if any(needed not in done for needed in node.inputs):
            continue
        renew()
        try:
            run_id = _taken(node, source, done, stands.unfinished.get(key), ledger)
        except FileNotFoundError:
            taken[key] = None
            continue
        if run_id is not None:
            done[key] = run_id
            taken[key] = source.computed[0]
    return taken


def _taken(
    node: Node,
    source: tracking.Elsewhere,
    done: dict[str, str],
    earlier: tracking.RunRecord | None,
    ledger: tracking.LedgerWriter,
) -> str | None:
    """The identifier of the copied run; None if the other run's artifacts are not as recorded.

    Raises:
        FileNotFoundError: A file was deleted after it was checked; the copied run is open.
    """
    with _at_hand(source.run.artifact_uri, ledger.tracking_uri) as folder:
        outcome = published_outcome(folder.as_uri(), node.key, ledger.tracking_uri)
        recorded = source.run.tags.get(tracking.DIGEST_TAG, "")
        if outcome is None or recorded not in ("", digest_of(outcome.digests)):
            return None
        run = _opened(node, source, done, earlier, ledger)
        logged = ledger.logged_steps(run) if earlier else set()
        params = missing_params({**node.params, **outcome.settled}, run)
        ledger.log(run.run_id, params, missing_measurements(outcome, logged))
        _bring(folder, [*outcome.digests, RESULT], run, ledger.tracking_uri)
    ledger.end_copy(run.run_id, "FINISHED", source.run.end_time, closing_tags(outcome))
    return run.run_id


def _opened(
    node: Node,
    source: tracking.Elsewhere,
    done: dict[str, str],
    earlier: tracking.RunRecord | None,
    ledger: tracking.LedgerWriter,
) -> tracking.RunRecord:
    study, computed = source.computed
    parent = done.get(node.parent) if node.parent else None
    opening = run_opening(node, parent, source.run.tags.get("rfray.git", "unknown"), earlier)
    note = opening.tags[tracking.NOTE_TAG]
    tags = {
        **opening.tags,
        "rfray.version": source.run.tags.get("rfray.version", ""),
        tracking.NOTE_TAG: f"{note} Computed by the run {computed} of the study {study}.",
        tracking.TAKEN_FROM_TAG: computed,
        tracking.TAKEN_FROM_STUDY_TAG: study,
    }
    if earlier is None:
        return ledger.open_copy(opening.name, source.run.start_time, tags)
    return ledger.reopen_run(earlier, tracking.RunOpening(opening.name, tags, opening.params))


@contextmanager
def _at_hand(artifact_uri: str, tracking_uri: str) -> Iterator[Path]:
    """The folder of a run's artifacts; downloaded, and deleted afterwards, if it is on a server."""
    local = local_path(artifact_uri)
    if local is not None:
        yield local
        return
    folder = tracking.fetch_artifacts(artifact_uri, tracking_uri)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _bring(folder: Path, names: Iterable[str], run: tracking.RunRecord, tracking_uri: str) -> None:
    """Copy artifacts to those of a run. The last name is the file that marks them complete."""
    target = local_path(run.artifact_uri)
    if target is None:
        tracking.send_artifacts(folder, run.run_id, tracking_uri)
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
        os.link(source, target)  # safe: files of runs are replaced and never changed in place
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
