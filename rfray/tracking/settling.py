"""Corrects the artifact addresses in a store that was moved or copied, for MLflow's pages.

rfray itself does not need this, see `places`. So nothing is done if the database cannot be written
or a sweep holds the study. MLflow's tables are imported only for a sqlite file, because the import
takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from rfray.tracking.ledger import STUDY_TAG, Ledger
from rfray.tracking.places import (
    ARTIFACTS,
    STORE_TAG,
    Home,
    database_file,
    is_there,
    present_address,
)
from rfray.tracking.store import check_store, is_outage

if TYPE_CHECKING:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.orm import Session

Hold = Callable[[Path, str], AbstractContextManager[bool]]
"""Holds a study of a folder for a moment, so that no driver starts; yields whether it is held."""


@dataclass(frozen=True)
class _Stale:
    """What is out of date in a database's records of a study.

    Attributes:
        location: Whether the experiment's artifact location is out of date.
        tag: Whether its tag with the folder of the database is missing or out of date.
        runs: New artifact URIs by run.
    """

    location: bool
    tag: bool
    runs: dict[str, str]

    @property
    def moved(self) -> bool:
        return self.location or bool(self.runs)


def settle_moved(tracking_uri: str, hold: Hold) -> list[str]:
    """Correct the artifact addresses in a sqlite store; returns a sentence for each change.

    Nothing is changed for another path to the same folder, for artifacts that are in another place
    on purpose, for a study that a sweep works on, and for a store that is not a sqlite file.

    Args:
        tracking_uri: URI of the store.
        hold: Holds a study while its addresses are written.

    Raises:
        UserError: The store does not answer.
    """
    file = database_file(tracking_uri)
    if file is None or not file.is_file():
        return []
    if not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        return []
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    check_store(tracking_uri)
    ledger = Ledger(tracking_uri)
    database = SqlAlchemyStore(tracking_uri, file.parent.as_uri())
    told = []
    try:
        for experiment in ledger.experiments():
            home = ledger.home(experiment) if STUDY_TAG in experiment.tags else None
            if home is not None and _settle(database, experiment, home, hold):
                told.append(
                    f"the artifacts of '{experiment.name}' were moved: MLflow now looks for them "
                    f"in {home.folder}"
                )
    except MlflowException as error:
        if not is_outage(error):
            raise
        # Another process locks the database for a long time: a later command does it.
    return told


def _settle(database: SqlAlchemyStore, experiment: Experiment, home: Home, hold: Hold) -> bool:
    """Correct the addresses of a study; returns whether any was out of date."""
    with database.ManagedSessionMaker() as session:
        stale = _stale(session, experiment, home)
    if not (stale.moved or stale.tag):
        return False
    with hold(home.store, experiment.name) as held:
        if not held:
            return False
        with database.ManagedSessionMaker(read_only=False) as session:
            _write(session, int(experiment.experiment_id), home, _stale(session, experiment, home))
    return stale.moved


def _stale(session: Session, experiment: Experiment, home: Home) -> _Stale:
    from mlflow.store.tracking.dbmodels.models import SqlRun
    from sqlalchemy import select

    held, elsewhere = home.held(), _Elsewhere(home.store)
    location = experiment.artifact_location
    runs = session.execute(
        select(SqlRun.run_uuid, SqlRun.status, SqlRun.artifact_uri).where(
            SqlRun.experiment_id == int(experiment.experiment_id)
        )
    )
    return _Stale(
        location=location != home.uri and elsewhere(home.former_store(location)),
        tag=STORE_TAG not in experiment.tags or elsewhere(Path(experiment.tags[STORE_TAG])),
        runs={
            run_id: now
            for run_id, status, recorded in runs
            if (now := present_address(home, run_id, status, recorded, held, is_there)) != recorded
            and elsewhere(home.former_store(recorded, run_id, ARTIFACTS))
        },
    )


def _write(session: Session, experiment_id: int, home: Home, stale: _Stale) -> None:
    """Write the new addresses in the transaction of the session."""
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlExperimentTag, SqlRun
    from sqlalchemy import update

    if stale.location:
        session.execute(
            update(SqlExperiment)
            .where(SqlExperiment.experiment_id == experiment_id)
            .values(artifact_location=home.uri)
        )
    if stale.tag:
        tag = SqlExperimentTag(experiment_id=experiment_id, key=STORE_TAG, value=str(home.store))
        session.merge(tag)
    if stale.runs:
        session.execute(
            update(SqlRun),
            [{"run_uuid": run_id, "artifact_uri": uri} for run_id, uri in stale.runs.items()],
        )


class _Elsewhere:
    """Whether a former folder is another one than the store's, and not another path to it."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known: dict[Path | None, bool] = {}

    def __call__(self, former: Path | None) -> bool:
        if former not in self._known:
            self._known[former] = not (
                former is not None and is_there(former) and former.samefile(self._store)
            )
        return self._known[former]
