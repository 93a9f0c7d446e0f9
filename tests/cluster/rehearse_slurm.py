"""A rehearsal of docs/clusters.md, "Slurm", with a Slurm of its own on this machine.

    python tests/cluster/rehearse_slurm.py [--keep]

Time limits are long at first and shortened when a study has begun, for slow machines and fast ones.
Two studies at once, of one user, on the same two nodes, as strangers would be there:

calm    its driver is started by hand, as on a login node. Both its workers come near their time
        limit in the middle of it: they go, are queued again, and finish it. No run may be lost
        for that: `resources.….retries` is 0.
rough   its driver is a small job that comes near its own time limit and is queued again. One
        worker, with two (pretended) GPUs, is not told before its limit, and is killed by it.

Needs root and Debian's slurm-wlm and munge; rfray installed in this Python. Everything is removed
at the end, also after a failure; with --keep the folder of logs stays. Takes about ten minutes,
most of them Slurm's: it lets a job that is queued again wait for two. Exit code 0 only if all of it
held.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from small_slurm import NODES, SmallSlurm, missing_tools

from rfray.engine.cluster_probe import Answer, ask

CHECKOUT = Path(__file__).resolve().parents[2]
STAGES = ("train", "prune", "finetune", "hessian", "cka", "importance")
OTHERS = ("barrier", "erf", "probe", "saturation")
TINY = [
    "axes.arch=[vgg19_rf]", "train.images_per_epoch=128", "prune.rates=[0.9]", "hessian.n=1",
    "cka.at=[trained]", *(f"{stage}=false" for stage in OTHERS),
]  # fmt: skip
CALM = [
    "quickstart", "name=calm", *TINY, "axes.kernel_size=[4,5]", "axes.seed=[0,1]",
    "train.epochs=100", *(f"resources.{stage}.retries=0" for stage in STAGES),
]  # fmt: skip
ROUGH = [
    "quickstart", "name=rough", *TINY, "axes.kernel_size=[5]", "train.epochs=200",
    *(f"resources.{stage}.gpus=0" for stage in STAGES),
]  # fmt: skip
SECONDS_OF_SLURM = 240  # two minutes until a job that is queued again may start, and its own pace


class Broken(Exception):
    """Something did not hold."""


def say(text: str) -> None:
    print(f"slurm {time.monotonic() - STARTED:5.0f} s  {text}", flush=True)


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)
    say(f"ok: {what}")


def wait_for(what: str, seconds: float, is_so: Callable[[], bool]) -> None:
    """Wait until something is so; Broken if it never is."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise Broken(f"{what}: not within {seconds:.0f} s")
        time.sleep(1)
    say(f"ok: {what}")


class Rehearsal:
    """The story, with what it needs to remember."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        (scratch / "slurm").mkdir()
        self.slurm = SmallSlurm(scratch / "slurm")
        self.calm: subprocess.Popen[bytes] | None = None
        self.jobs: dict[str, str] = {}

    def play(self) -> None:
        self.slurm.start()
        say(f"Slurm {self.slurm.ask('sinfo', '--version')} runs, with the nodes {', '.join(NODES)}")
        self.drivers_start()
        self.workers_join()
        self.they_do_not_meet()
        self.the_calm_ones_go()
        self.the_rough_ones_are_stopped()
        self.all_come_back()
        self.both_studies_end()
        self.nothing_is_left()

    def drivers_start(self) -> None:
        with (self.scratch / "calm-0.out").open("wb") as log:
            self.calm = subprocess.Popen(
                ["bash", "cluster/driver.sbatch", *CALM], cwd=CHECKOUT, stdout=log, stderr=log,
                env=self.environment("calm"), stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.submit("rough", "driver", script="driver", more=ROUGH)
        for study in ("calm", "rough"):
            wait_for(f"{study}: the head is up", 120, (self.meeting(study) / "address").exists)

    def workers_join(self) -> None:
        self.submit("calm", "workers", "--array=1-2")
        self.submit("rough", "doomed", "--signal=B:CONT@1", "--gres=gpu:2")
        self.submit("rough", "steady")
        for log, count in (("calm-workers", 2), ("rough-doomed", 1), ("rough-steady", 1)):
            wait_for(f"{log} join", 90, lambda log=log, n=count: self.said(log, "joins") >= n)
        check(
            self.said("rough-doomed", "--num-gpus=2") >= 1, "it offers the 2 GPUs that it was given"
        )
        check(self.said("rough-steady", "--num-gpus=0") >= 1, "the others offer none")

    def they_do_not_meet(self) -> None:
        addresses, tokens = (
            {study: (self.meeting(study) / name).read_text().strip() for study in ("calm", "rough")}
            for name in ("address", "token")
        )
        say(f"heads at {addresses}")
        check(ask(addresses["calm"], tokens["calm"], 9) is Answer.WELCOME, "a head takes its token")
        foreign = ask(addresses["calm"], tokens["rough"], 9)
        check(foreign is Answer.NO_ENTRY, "and no other one's")
        modes = [stat.S_IMODE((self.meeting(s) / "token").stat().st_mode) for s in tokens]
        check(modes == [0o600, 0o600], "tokens are their owner's alone")
        shown = subprocess.run(
            ["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True
        ).stdout
        check(not any(token in shown for token in tokens.values()), "ps shows no token")
        again = subprocess.run(
            ["bash", "cluster/driver.sbatch", *CALM], cwd=CHECKOUT, env=self.environment("calm"),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        told = again.returncode == 2 and "a driver is there already" in again.stderr
        check(told, "a second driver of the same folder is refused, exit code 2")

    def the_calm_ones_go(self) -> None:
        wait_for("the calm sweep has begun", 300, lambda: self.said("calm", "runs to do") == 1)
        for task in (1, 2):
            self.limit("calm-workers", 2, f"_{task}")
        wait_for("both calm workers hear of their limit", 150,
                 lambda: self.said("calm-workers", "takes no more work") == 2)  # fmt: skip
        check(self.running("calm"), "the calm sweep is still going")
        wait_for("they are queued again", 90, lambda: self.queued_again("calm-workers") == 2)

    def the_rough_ones_are_stopped(self) -> None:
        wait_for("the rough sweep has begun", 300, lambda: self.said("rough-driver", "to do") == 1)
        self.limit("rough-doomed", 0)
        self.limit("rough-driver", 2)
        wait_for("a worker is killed by its time limit", 150,
                 lambda: self.said("rough-doomed", "DUE TO TIME LIMIT") > 0)  # fmt: skip
        check(self.queued_again("rough-doomed") == 0, "and is not queued again")
        wait_for("the rough driver is queued again", 240,
                 lambda: self.queued_again("rough-driver") == 1)  # fmt: skip
        check(self.said("rough-driver", "interrupted") == 1, "its sweep had ended in order")

    def all_come_back(self) -> None:
        for name in ("calm-workers_1", "calm-workers_2", "rough-driver"):
            job, _, task = name.partition("_")
            self.limit(job, 60, task and f"_{task}")
        wait_for("the calm workers are back", SECONDS_OF_SLURM,
                 lambda: self.said("calm-workers", "joins") >= 4)  # fmt: skip
        wait_for("the rough driver is back", SECONDS_OF_SLURM,
                 lambda: self.said("rough-driver", "the head is at") == 2)  # fmt: skip
        wait_for("and its worker finds it", 120, lambda: self.said("rough-steady", "joins") >= 2)

    def both_studies_end(self) -> None:
        assert self.calm is not None
        wait_for("the calm sweep ends", 600, lambda: not self.running("calm"))
        check(self.calm.returncode == 0, "with exit code 0")
        wait_for("the rough sweep ends", 600,
                 lambda: self.said("rough-driver", "runs are done") > 0)  # fmt: skip
        for study, words in (("calm", CALM), ("rough", ROUGH)):
            found = self.read_back(study, words)
            keys, runs = sorted(run["key"] for run in found["runs"]), found["runs"]
            check(keys == found["planned"], f"{study}: one run for each of the {len(keys)} keys")
            check(all(run["status"] == "FINISHED" for run in runs), f"{study}: each is FINISHED")

    def nothing_is_left(self) -> None:
        wait_for("every job has ended by itself", SECONDS_OF_SLURM,
                 lambda: not self.slurm.ask("squeue", "-h"))  # fmt: skip
        check(self.said("rough-steady", "the sweep has ended") == 1, "workers say why")
        mine = str(self.scratch)
        wait_for("no process of theirs is left", 30, lambda: not processes_in(mine))
        check(not list((self.scratch / "tmp").iterdir()), "nor a file of Ray's")

    def environment(self, study: str) -> dict[str, str]:
        return {
            **self.slurm.environment,
            "RFRAY_STORAGE": str(self.scratch / study),
            "RFRAY_ENVIRONMENT": sys.prefix,
            "RFRAY_LEAVE_SECONDS": "10",
            "PYTHONPATH": str(CHECKOUT),
            "TMPDIR": str(self.scratch / "tmp"),
        }

    def submit(
        self, study: str, name: str, *options: str, script: str = "worker", more: Sequence[str] = ()
    ) -> None:
        log = self.scratch / f"{study}-{name}"
        command = [
            "sbatch", "--parsable", "--cpus-per-task=1", f"--job-name={study}-{name}",
            f"--output={log}-%j.out", *options, f"cluster/{script}.sbatch", *more,
        ]  # fmt: skip
        ended = subprocess.run(
            command, cwd=CHECKOUT, env=self.environment(study), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if ended.returncode:
            raise Broken(f"{' '.join(command)}: {ended.stderr}")
        self.jobs[f"{study}-{name}"] = ended.stdout.strip()
        say(f"queued: {study}-{name} {' '.join(options)}")

    def limit(self, name: str, minutes: int, task: str = "") -> None:
        """Set the time limit of a job to that long from now, in whole minutes since its start."""
        job = f"{self.jobs[name]}{task}"
        clock = self.slurm.ask("squeue", "-h", "-j", job, "-o", "%M").split(":")
        spent = int(clock[-2]) if len(clock) > 1 else 0
        self.slurm.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={max(1, spent + minutes)}")
        say(f"{name}{task}: time limit in {minutes} min")

    def queued_again(self, name: str) -> int:
        return self.said(name, "is queued again")

    def said(self, log: str, words: str) -> int:
        """How many lines of the logs of a job hold some words."""
        lines = "".join(path.read_text() for path in self.scratch.glob(f"{log}-*.out"))
        return sum(words in line for line in lines.splitlines())

    def running(self, study: str) -> bool:
        return self.calm is not None and self.calm.poll() is None

    def meeting(self, study: str) -> Path:
        return self.scratch / study / "meeting"

    def read_back(self, study: str, words: list[str]) -> Any:
        store = {"MLFLOW_TRACKING_URI": f"sqlite:///{self.scratch / study}/mlflow.db"}
        ended = subprocess.run(
            [sys.executable, CHECKOUT / "tests/cluster/read_back.py", *words], cwd=CHECKOUT,
            env={**self.environment(study), **store}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(ended.stdout.splitlines()[-1])

    def close(self) -> None:
        if self.calm is not None and self.calm.poll() is None:
            os.killpg(self.calm.pid, signal.SIGTERM)
            self.calm.wait()
        self.slurm.close()


def processes_in(folder: str) -> list[str]:
    """Processes whose command line names a folder, but for Slurm's daemons."""
    listed = subprocess.run(
        ["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in listed.splitlines() if folder in line and "munged" not in line]


def main() -> int:
    if os.geteuid() != 0:
        print("rehearsal: only root can start Slurm's daemons", file=sys.stderr)
        return 2
    if missing_tools():
        print(f"rehearsal: not installed: {', '.join(missing_tools())}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scratch = Path(tempfile.mkdtemp(prefix="rfs-", dir="/var/tmp"))
    scratch.chmod(0o755)
    (scratch / "tmp").mkdir()
    rehearsal = Rehearsal(scratch)
    try:
        rehearsal.play()
    except (Broken, TimeoutError) as broken:
        say(f"BROKEN: {broken}")
        for log in sorted(scratch.glob("*.out")):
            print(f"--- {log.name}", *log.read_text().splitlines()[-12:], sep="\n")
        return 1
    else:
        say("done: both studies finished")
        return 0
    finally:
        rehearsal.close()
        if "--keep" in sys.argv:
            say(f"logs: {scratch}")
        else:
            shutil.rmtree(scratch)


STARTED = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
