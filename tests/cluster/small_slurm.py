"""A Slurm of one's own in a folder: controller, munge and two nodes, on this one machine.

Debian's packages slurm-wlm and munge, with a key, ports, state and logs of their own; nothing in
/etc or /run is read or written. Nodes are two daemons under two names; what they offer is
pretended. Root alone can start them.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("node-a", "node-b")
CORES, GPUS = 8, 4  # pretended
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
_NOTHING = (1, 3)  # the device behind /dev/null: Slurm takes no plain file for a card
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing_tools() -> list[str]:
    """What of Slurm is not installed here."""
    return [tool for tool in TOOLS if shutil.which(tool, path=_PATH) is None]


class SmallSlurm:
    """Started by `start`, ended by `close`.

    Args:
        folder: An empty folder that root alone writes, as are those above it (munge asks for that).

    Attributes:
        environment: What a command needs to speak to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": _PATH, "SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start every daemon and wait until both nodes are idle; TimeoutError if they never are."""
        self._write_configuration()
        munge = self.folder / "munge"
        self._daemon(
            "munged", "--foreground", f"--key-file={munge}/key", f"--socket={munge}/socket",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        _wait((munge / "socket").exists, "munged")
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        _wait(lambda: self.ask("sinfo", "-h", "-N", "-o", "%t") == "idle\nidle", "Slurm's nodes")

    def ask(self, *words: str | Path) -> str:
        """What a command says, exit code or not."""
        return subprocess.run(
            [*map(str, words)], env=self.environment, capture_output=True, text=True, check=False
        ).stdout.strip()

    def close(self) -> None:
        """Cancel every job, then end the daemons."""
        self.ask("scancel", "--full", "--user=root")
        try:
            _wait(lambda: not self.ask("squeue", "-h"), "the last job's end")
        except TimeoutError:
            self.ask("scancel", "--full", "--signal=KILL", "--user=root")
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            daemon.wait()

    def _daemon(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            command = [str(shutil.which(name, path=_PATH)), *words]
            self._daemons.append(
                subprocess.Popen(
                    command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )
            )  # fmt: skip

    def _write_configuration(self) -> None:
        folder, host = self.folder, socket.gethostname().split(".")[0]
        for name in ("munge", "state", *NODES):
            (folder / name).mkdir()
        (folder / "munge" / "key").write_bytes(os.urandom(64))
        (folder / "munge" / "key").chmod(0o600)
        cards = [folder / f"card-{number}" for number in range(GPUS)]
        for card in cards:
            os.mknod(card, stat.S_IFCHR | 0o600, os.makedev(*_NOTHING))
        (folder / "gres.conf").write_text(
            f"NodeName={NODES[0]} Name=gpu File={folder}/card-[0-{GPUS - 1}]\n"
        )
        controller, *ports = _free_ports(1 + len(NODES))
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CORES} "
            f"RealMemory=16000{f' Gres=gpu:{GPUS}' if node == NODES[0] else ''}"
            for node, port in zip(NODES, ports, strict=True)
        ]
        settings = f"""\
ClusterName=rehearsal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n/pid
SlurmdLogFile={folder}/%n/log
SlurmdSpoolDir={folder}/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=5
"""
        partition = "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
        (folder / "slurm.conf").write_text("\n".join([settings, *nodes, partition, ""]))


def _free_ports(count: int) -> list[int]:
    listening = [socket.socket() for _ in range(count)]
    for one in listening:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in listening]
    for one in listening:
        one.close()
    return ports


def _wait(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
