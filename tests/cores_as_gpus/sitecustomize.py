"""In every process that has this on its path, a job that was given GPUs computes on the processor.

The first two processes that are to train a network together are killed.
"""

import os
import signal
import sys
from pathlib import Path

from wrapt import register_post_import_hook


def compute_on_the_processor(worker):
    run_job = worker.run_job
    worker.run_job = lambda job, tell: run_job(job.model_copy(update={"device": "cpu"}), tell)


register_post_import_hook(compute_on_the_processor, "rfray.engine.worker")

if any("rfray.training.member" in word for word in sys.orig_argv):
    marks = Path(os.environ["MARKS"])
    if len(list(marks.glob("lost-*"))) < 2:
        (marks / f"lost-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
