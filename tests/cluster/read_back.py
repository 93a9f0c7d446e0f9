"""Run on the head: the runs of a study, read back through MLflow, as JSON on the last line.

python read_back.py SWEEP [KEY=VALUE]…
"""

from __future__ import annotations

import json
import os
import sys

from mlflow.tracking import MlflowClient

from rfray.plan import make_plan
from rfray.study.sweep_file import load_study

plan = make_plan(load_study(sys.argv[1], sys.argv[2:]))
client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
experiment = client.get_experiment_by_name(plan.study.name)
runs = client.search_runs([experiment.experiment_id], max_results=1000)
record = [
    {
        "name": run.info.run_name,
        "status": run.info.status,
        "key": run.data.tags["rfray.key"],
        "host": run.data.tags.get("rfray.host", ""),
        "attempt": run.data.tags.get("rfray.attempt", "1"),
        "artifact_uri": run.info.artifact_uri,
        "artifacts": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
    }
    for run in runs
]
print(json.dumps({"planned": sorted(plan.nodes), "runs": record}))
