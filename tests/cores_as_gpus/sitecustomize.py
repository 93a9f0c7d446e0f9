"""In every process that has this on its path, a job that was given GPUs computes on the processor.

Of the processes that train a network together, the second one of seed 0 is killed each time.
"""

import os
import signal
from pathlib import Path

from wrapt import register_post_import_hook


def compute_on_the_processor(worker):
    run_job = worker.run_job
    worker.run_job = lambda job, tell: run_job(job.model_copy(update={"device": "cpu"}), tell)


def kill_some(member):
    train = member._train

    def killed_or_trained(task, *others):
        if task.rank == 1 and task.cell.seed == 0:
            (Path(os.environ["MARKS"]) / f"attempt-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        train(task, *others)

    member._train = killed_or_trained


register_post_import_hook(compute_on_the_processor, "rfray.engine.worker")
register_post_import_hook(kill_some, "rfray.training.member")
