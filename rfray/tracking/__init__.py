"""The tracking store (*ledger*) in MLflow. Only this package imports MLflow.

`Ledger` reads, for example for `rfray status` and `rfray analyze`. `LedgerWriter` writes, for the
driver. `docs/mlflow.md` describes the public schema of runs, tags, params, metrics and artifacts.
"""

from rfray.tracking.ledger import STUDY_TAG, Ledger
from rfray.tracking.records import (
    DIGEST_TAG,
    KEY_TAG,
    NOTE_TAG,
    ORIGIN_TAG,
    PARENT_TAG,
    STAGE_TAG,
    SUPERSEDED_TAG,
    TAKEN_FROM_STUDY_TAG,
    TAKEN_FROM_TAG,
    WITHHELD_TAG,
    Elsewhere,
    Measured,
    RunOpening,
    RunRecord,
    withheld_of,
    withheld_tag,
)
from rfray.tracking.settling import settle_moved
from rfray.tracking.store import (
    check_store,
    is_outage,
    make_database,
    store_answers,
    store_written,
    through_outages,
)
from rfray.tracking.transfers import (
    artifact_at_hand,
    artifact_names,
    fetch_artifact,
    fetch_artifacts,
    send_artifacts,
)
from rfray.tracking.writer import LedgerWriter

__all__ = [
    "DIGEST_TAG",
    "KEY_TAG",
    "NOTE_TAG",
    "ORIGIN_TAG",
    "PARENT_TAG",
    "STAGE_TAG",
    "STUDY_TAG",
    "SUPERSEDED_TAG",
    "TAKEN_FROM_STUDY_TAG",
    "TAKEN_FROM_TAG",
    "WITHHELD_TAG",
    "Elsewhere",
    "Ledger",
    "LedgerWriter",
    "Measured",
    "RunOpening",
    "RunRecord",
    "artifact_at_hand",
    "artifact_names",
    "check_store",
    "fetch_artifact",
    "fetch_artifacts",
    "is_outage",
    "make_database",
    "send_artifacts",
    "settle_moved",
    "store_answers",
    "store_written",
    "through_outages",
    "withheld_of",
    "withheld_tag",
]
