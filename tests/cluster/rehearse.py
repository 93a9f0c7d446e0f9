"""A rehearsal of `ray up cluster/local.yaml`, from an empty laptop to `ray down`.

    python tests/cluster/rehearse.py [--keep]

A laptop, a head and two workers, each with its own network, processes, disk and sshd, on this one
machine (`machines.py`). They do what docs/clusters.md tells a user to do, with a user's files; in
the copy of local.yaml only the shared folder, what a worker offers and how long it may be idle are
others, and the pinned versions are those that are installed here. The cluster starts without a
worker. The sweep has the autoscaler start one and, once there is work for it, a second; one loses
its power and is switched on again, and a new machine is added beside it. After the sweep the
workers go away by themselves. What was asked of the autoscaler is printed.

Needs root, Linux, and Debian's iproute2, openssh-server, rsync, postgresql, procps, curl and git;
rfray installed with the extra `cluster`. Everything is removed at the end, also after a failure;
with --keep the folder of disks and logs stays. Exit code 0 only if all of it held.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machines import Machines, own

CHECKOUT = Path(__file__).resolve().parents[2]
HEAD, WORKERS = "192.168.1.10", {"worker-1": "192.168.1.11", "worker-2": "192.168.1.12"}
SPARE, LAPTOP = "192.168.1.13", "192.168.1.2"
MLFLOW = f"http://{HEAD}:5000"
SWEEP = [
    "quickstart", "axes.arch=[vgg19_rf]", "axes.kernel_size=[4]", "axes.seed=[0]",
    "importance=false", "cka=false", "prune.rates=[0.3,0.5,0.6,0.7,0.8,0.9]", "hessian.n=1",
    "finetune.images_per_epoch=896", "finetune.epochs=60",
]  # fmt: skip
"""One network, on which much depends: so there is work for one machine first, then for more; and
enough of it that a lost machine is wanted back."""
# A shell that signals its own group, as an interactive one may, must not stop the rehearsal.
BY_ITSELF: Any = {"stdin": subprocess.DEVNULL, "start_new_session": True}
LIST_NODES = (
    "import os; from ray._raylet import GcsClient;"
    " gcs = GcsClient(address=os.environ['RAY_ADDRESS']);"
    " nodes = gcs.get_all_node_info(timeout=20);"
    " print(*(node.node_manager_hostname for node in nodes.values() if node.state == 0));"
    " print((gcs.internal_kv_get(b'autoscaler_resource_request', None) or b'[]').decode())"
)
"""The nodes that are alive, and below them what is asked of the (first) autoscaler."""
ALL_TOOLS = ("unshare", "nsenter", "ip", "sshd", "ssh-keygen", "rsync", "ps", "git", "curl", "psql")


class Broken(Exception):
    """Something did not hold."""


def say(text: str) -> None:
    print(f"rehearsal {time.monotonic() - STARTED:5.0f} s  {text}", flush=True)


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
        time.sleep(3)
    say(f"ok: {what}")


class Rehearsal:
    """The story, with what it needs to remember."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.logs = scratch / "logs"
        self.logs.mkdir()
        self.machines = Machines(scratch)
        self.checkout = scratch / "machines" / "laptop" / "home" / "rfray"
        self.asked: list[Any] = []

    def play(self) -> None:
        self.switch_on()
        self.ray_up()
        self.strangers_are_refused()
        self.sweep_starts_workers_and_survives_a_lost_one()
        self.workers_go_away_by_themselves()
        self.results_are_complete()
        self.no_secret_is_seen()
        self.ray_down()

    def switch_on(self) -> None:
        self.machines.add("laptop", LAPTOP)
        self.machines.add("head", HEAD)
        for name, address in WORKERS.items():
            self.machines.add(name, address)
        shutil.copy(self.scratch / "key", self.laptop_home / ".ssh" / "id_ed25519")
        copy_checkout(self.checkout)
        local = self.checkout / "cluster/local.yaml"
        replace_in(local, "/shared/rfray", str(self.machines.shared))
        replace_in(local, "{CPU: 16, GPU: 1}", "{CPU: 1}")
        replace_in(local, "idle_timeout_minutes: 5", "idle_timeout_minutes: 0.5")
        pin_what_is_installed(self.checkout / "cluster/constraints.txt")
        own(self.laptop_home)
        say("a laptop, a head and two workers are on")

    def ray_up(self) -> None:
        self.on("laptop", "ray", "up", "--yes", "cluster/local.yaml", log="ray-up", seconds=400)
        say("ok: ray up")
        check(self.alive_workers() == set(), "there is no worker, and nobody pays for one")

    def strangers_are_refused(self) -> None:
        ask = f"curl -s -o /dev/null -w %{{http_code}} {MLFLOW}/api/2.0/mlflow/experiments/search"
        anonymous = self.on("worker-1", "sh", "-c", f"{ask}?max_results=1")
        check(anonymous == "401", "the MLflow server refuses who has no password (401)")
        wrong = self.on("worker-1", "sh", "-c", f"{ask}?max_results=1 --user rfray:wrong")
        check(wrong == "401", "the MLflow server refuses a wrong password (401)")
        host = self.on("worker-1", "sh", "-c", f"{ask}?max_results=1 --header 'Host: evil.example'")
        check(host == "403", "the MLflow server refuses a foreign Host header (403)")
        sweep = self.on(
            "head", "bash", "-lic", f"MLFLOW_TRACKING_PASSWORD=wrong rfray status {SWEEP[0]}",
            expect=2,
        )  # fmt: skip
        told = "refuses a request" in sweep and "401" in sweep and "Traceback" not in sweep
        check(told, "rfray says so, exit code 2")
        joining = {
            "ray.init": "import ray; ray.init(logging_level='CRITICAL'); print(ray.nodes())",
            "a request": LIST_NODES,
        }
        for what, environment, how in (
            ("who has no token", "HOME=/tmp", "ray.init"),
            ("a wrong token", "RAY_AUTH_TOKEN=wrong", "a request"),
            ("who switched authentication off", "HOME=/tmp RAY_AUTH_MODE=disabled", "a request"),
        ):
            command = f'{environment} timeout 60 python -c "{joining[how]}"'
            answer = self.on("head", "bash", "-lic", command, expect=None)
            refused = "auth" in answer.lower() and "head" not in answer and "NodeID" not in answer
            check(refused, f"Ray refuses {what} ({how})")

    def sweep_starts_workers_and_survives_a_lost_one(self) -> None:
        quoted = " ".join(f"'{word}'" for word in SWEEP)
        sweep = self.start(
            "laptop", "ray", "exec", "cluster/local.yaml",
            f"python -m rfray.sweep {quoted} --address auto", log="sweep",
        )  # fmt: skip
        wait_for("the sweep waits for a machine", 120, lambda: "waiting for a" in self.log("sweep"))
        wait_for("it has one started", 400, lambda: len(self.alive_workers()) == 1)
        wait_for("then the second", 400, lambda: self.alive_workers() == set(WORKERS))
        wait_for("both have finished runs", 400, lambda: self.hosts_of("FINISHED") >= set(WORKERS))
        check(sweep.poll() is None, "the sweep is still going")
        self.look_at_command_lines()
        self.machines.cut_power("worker-2")
        say("worker-2 has lost its power")
        wait_for("its loss was noticed", 120, lambda: self.alive_workers() == {"worker-1"})
        self.machines.switch_on("worker-2")
        say("worker-2 is on again; the head is left to notice")
        wait_for("worker-2 is back", 400, lambda: set(WORKERS) <= self.alive_workers())
        self.machines.add("worker-3", SPARE)
        add = f"bash ~/rfray/cluster/add-worker.sh ubuntu@{SPARE} -i ~/ray_bootstrap_key.pem"
        self.on("laptop", "ray", "exec", "cluster/local.yaml", add, log="add-worker", seconds=300)
        wait_for("worker-3, a new machine, joined", 60, lambda: "worker-3" in self.alive_workers())
        check(sweep.wait(timeout=500) == 0, "the sweep finished, exit code 0")
        self.tell_what_was_asked()
        again = f"python -m rfray.sweep {quoted}"
        said = self.on("laptop", "ray", "exec", "cluster/local.yaml", again, seconds=120)
        check("runs are done" in said, "without --address it joins as well, and nothing is to do")

    def workers_go_away_by_themselves(self) -> None:
        wait_for(
            "both workers have gone away by themselves", 240,
            lambda: self.alive_workers() <= {"worker-3"},
        )  # fmt: skip
        running = [name for name in WORKERS if "raylet" in self.machines.command_lines(name)]
        check(not running, "no Ray runs on them any more")

    def tell_what_was_asked(self) -> None:
        """What the sweep said it asked for, and what lay with the autoscaler meanwhile."""
        for line in self.log("sweep").splitlines():
            if "asks the cluster" in line:
                say(f"told: {line.strip()}")
        sizes = [len(bundles) for bundles in self.asked]
        check(max(sizes) == len(WORKERS), "no more was asked for than there are workers")
        self.alive_workers()
        check(self.asked[-1] == [], "at the end of the sweep nothing is asked for any more")

    def results_are_complete(self) -> None:
        found = self.read_back()
        runs, planned = found["runs"], found["planned"]
        keys = sorted(run["key"] for run in runs)
        check(keys == planned, f"one run for each of the {len(planned)} keys")
        check(all(run["status"] == "FINISHED" for run in runs), "every run is FINISHED")
        hosts = Counter(run["host"] for run in runs)
        used = set(WORKERS) <= set(hosts) and "head" not in hosts
        check(used, f"both workers computed, the head did not: {dict(hosts)}")
        served = all(run["artifact_uri"].startswith("mlflow-artifacts:") for run in runs)
        whole = all("result.json" in run["artifacts"] for run in runs)
        check(served and whole, "all artifacts lie behind the server")
        for name in WORKERS:
            prepared = self.on(name, "sh", "-c", "ls ~/.cache/rfray/prepared/*.safetensors")
            check(prepared.count("digits") == 1, f"{name} prepared its data set, once")

    def no_secret_is_seen(self) -> None:
        home = self.scratch / "machines" / "head" / "home"
        token = (home / ".ray" / "auth_token").read_text().strip()
        credentials = (home / ".mlflow" / "credentials").read_text()
        password = credentials.split("mlflow_tracking_password = ")[1].strip()
        check(len(token) > 30 and len(password) > 30, "there are secrets to look for")
        self.look_at_command_lines()
        places = [self.scratch / "machines", self.machines.shared, self.logs]
        holders = files_with((token, password), places)
        names = {str(path.relative_to(self.scratch / "machines")) for path in holders}
        meant = {
            f"{machine}/home/{name}"
            for machine in ("head", *WORKERS, "worker-3")
            for name in (".ray/auth_token", ".mlflow/credentials")
        }
        strays = ", ".join(sorted(names ^ meant)) or "none"
        check(names == meant, f"secrets lie in their {len(meant)} files alone; elsewhere: {strays}")
        modes = {oct(path.stat().st_mode & 0o777) for path in holders}
        check(modes == {"0o600"}, "and these are their owner's alone")

    def ray_down(self) -> None:
        self.on("laptop", "ray", "down", "--yes", "cluster/local.yaml", log="ray-down", seconds=120)
        check("gcs_server" not in self.machines.command_lines("head"), "ray down ended the head")
        self.on("head", "bash", "-lic", "bash ~/rfray/cluster/mlflow.sh stop")

        def ended() -> bool:
            left = self.machines.command_lines("head")
            return "mlflow" not in left and "postgres" not in left

        wait_for("mlflow.sh stop ended the services", 60, ended)
        wait_for(
            "worker-3 left on its own", 120,
            lambda: "raylet" not in self.machines.command_lines("worker-3"),
        )  # fmt: skip

    @property
    def laptop_home(self) -> Path:
        return self.scratch / "machines" / "laptop" / "home"

    def alive_workers(self) -> set[str]:
        said = self.on("head", "bash", "-lic", f'python -c "{LIST_NODES}"', expect=None)
        for line in said.splitlines():
            if line.startswith("["):
                self.note_asked(json.loads(line))
        return set(said.split()) & {*WORKERS, "worker-3"}

    def note_asked(self, bundles: Any) -> None:
        if not self.asked or self.asked[-1] != bundles:
            self.asked.append(bundles)
            say(f"asked of the autoscaler: {bundles or 'nothing'}")

    def log(self, name: str) -> str:
        file = self.logs / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def hosts_of(self, status: str) -> set[str]:
        """Where runs of a status ran; asked of the database, for a look that costs nothing."""
        socket = f"{self.machines.home}/.rfray/postgres/socket"
        ask = (
            "SELECT DISTINCT tags.value FROM tags JOIN runs USING (run_uuid)"
            f" WHERE tags.key = 'rfray.host' AND runs.status = '{status}'"
        )
        said = self.on("head", "psql", "-h", socket, "-U", "rfray", "-d", "mlflow", "-Atc", ask)
        return set(said.split())

    def read_back(self) -> Any:
        words = " ".join(f"'{word}'" for word in SWEEP)
        said = self.on("head", "bash", "-lic", f"python ~/rfray/tests/cluster/read_back.py {words}")
        return json.loads(said.splitlines()[-1])

    def look_at_command_lines(self) -> None:
        home = self.scratch / "machines" / "head" / "home"
        secrets = [(home / ".ray/auth_token").read_text().strip()]
        secrets += [(home / ".mlflow/credentials").read_text().split(" = ")[-1].strip()]
        shown = "".join(self.machines.command_lines(name) for name in ("laptop", "head", *WORKERS))
        check("raylet" in shown, "ps shows the cluster")
        check(not any(secret in shown for secret in secrets), "ps shows no secret")

    def start(self, name: str, *words: str, log: str) -> subprocess.Popen[bytes]:
        """A command on a machine that goes on while other things happen."""
        with (self.logs / f"{log}.log").open("ab") as file:
            return subprocess.Popen(
                self.command(name, words), stdout=file, stderr=file, **BY_ITSELF
            )

    def on(
        self, name: str, *words: str, expect: int | None = 0, log: str = "other", seconds: int = 90
    ) -> str:
        """What a command on a machine said; Broken if it ends otherwise than expected."""
        what = f"on {name}: {words[-1]}"
        try:
            ended = subprocess.run(
                self.command(name, words), capture_output=True, text=True, timeout=seconds,
                check=False, **BY_ITSELF,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Broken(f"{what}: not within {seconds} s") from error
        said = ended.stdout + ended.stderr
        with (self.logs / f"{log}.log").open("a") as file:
            file.write(f"== {what}\n{said}")
        if expect is not None and ended.returncode != expect:
            raise Broken(f"{what}: exit code {ended.returncode}\n{said}")
        return ended.stdout if expect == 0 else said

    def command(self, name: str, words: tuple[str, ...]) -> list[str]:
        """In the checkout on the laptop, at home elsewhere."""
        folder = self.machines.home / "rfray" if name == "laptop" else self.machines.home
        return self.machines.command(name, "sh", "-c", 'cd "$0" && exec "$@"', folder, *words)


def copy_checkout(target: Path) -> None:
    """What git knows of or would take, and the history, as a clone and its edits would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    rsync = ["rsync", "-a", "--from0", "--files-from=-", "--ignore-missing-args"]
    subprocess.run([*rsync, f"{CHECKOUT}/", target], input=listed, check=True)
    shutil.copytree(CHECKOUT / ".git", target / ".git")


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise Broken(f"{path.name} does not hold {old}")
    path.write_text(text.replace(old, new))


def pin_what_is_installed(constraints: Path) -> None:
    """The machines have no internet: what is installed here is what they can have."""
    lines = [line for line in constraints.read_text().splitlines() if "==" in line]
    names = [line.split("==")[0] for line in lines]
    constraints.write_text("".join(f"{name}=={version(name)}\n" for name in names))


def files_with(secrets: tuple[str, ...], folders: list[Path]) -> list[Path]:
    patterns = "\n".join(secrets)
    found = subprocess.run(
        ["grep", "-rlaF", "-f", "-", *map(str, folders)],
        input=patterns, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [Path(line) for line in found.stdout.splitlines()]


def missing_tools() -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [tool for tool in ALL_TOOLS if shutil.which(tool, path=path) is None]


def main() -> int:
    if os.geteuid() != 0:
        print("rehearsal: only root can make namespaces", file=sys.stderr)
        return 2
    if missing_tools():
        print(f"rehearsal: not installed: {', '.join(missing_tools())}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scratch = Path(tempfile.mkdtemp(prefix="rfray-rehearsal-", dir="/var/tmp"))
    scratch.chmod(0o755)
    rehearsal = None
    try:
        rehearsal = Rehearsal(scratch)
        rehearsal.play()
    except Broken as broken:
        say(f"BROKEN: {broken}")
        return 1
    else:
        say("done: from ray up to ray down")
        return 0
    finally:
        if rehearsal is not None:
            rehearsal.machines.close()
        if "--keep" in sys.argv:
            say(f"disks and logs: {scratch}")
        else:
            shutil.rmtree(scratch)


STARTED = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
