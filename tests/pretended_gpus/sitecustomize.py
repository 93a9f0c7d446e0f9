"""In every process that has this on its path, a job computes nothing and says what it was given.

Training of one epoch waits for one other. A quarter of a GPU is too little for training.
"""

import json
import os
import time
from pathlib import Path

from wrapt import register_post_import_hook


def say_what_was_given(job, tell):
    from rfray.engine.job import CardUse, Outcome, Progress

    began = time.time()
    if job.metered:
        tell(Progress(use=CardUse(peak=1e9, total=80e9, utilisation=0.25)))
    if job.stage == "train" and job.share == 0.25:
        return Outcome(key=job.key, status="failed", reason="full", out_of_card_memory=True)
    if job.stage == "train" and job.parameters["epochs"] == 1:
        _meet(Path(job.checkpoint).parent / "met", job.key, 2)
    time.sleep(0.3)
    given = {
        "process": os.getpid(),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "share": job.share,
        "device": job.device,
        "again": len(job.remarks),
        "began": began,
        "ended": time.time(),
    }
    return Outcome(key=job.key, status="finished", remarks=[json.dumps(given)])


def _meet(folder, key, count):
    """Wait until so many are here, for a while."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / key).touch()
    until = time.time() + 60
    while len(list(folder.iterdir())) < count and time.time() < until:
        time.sleep(0.1)


def pretend(worker):
    worker.run_job = say_what_was_given


register_post_import_hook(pretend, "rfray.engine.worker")
