"""Machines as namespaces: each with its own network, processes, hostname, home, /tmp and sshd.

They share the kernel, the installed packages and one folder, and live as long as the processes that
hold their namespaces: nothing is left behind in /run/netns, and no interface of the real machine is
touched. Root alone can make them.
"""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import entry_points
from pathlib import Path

USER = "ubuntu"
UID = 64123
SUBNET = 24
HERE = Path(__file__).resolve().parent
BUILD_TOOLS = ["hatchling", "editables"]  # of rfray, for machines without internet
NAMESPACES = ["--net", "--mount", "--pid", "--uts", "--ipc"]


class Machines:
    """A switch and the machines that hang on it; `close` ends them all.

    Args:
        scratch: An empty folder that every user may enter.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.home = scratch / "home"
        self.shared = scratch / "shared"
        self._python, self._packages = _installed()
        self._closed = _closed_above(self._python)
        self._machines: dict[str, subprocess.Popen[bytes]] = {}
        for folder in ("home", "shared", "python", "etc", "machines"):
            (scratch / folder).mkdir()
        for index, packages in enumerate(self._packages):
            (scratch / f"packages-{index}").mkdir()
            (scratch / f"packages-{index}.from").write_text(str(packages))
        own(self.shared)
        self._write_accounts()
        self._make_key()
        self._make_image()
        self._switch = subprocess.Popen(
            ["unshare", "--net", "--kill-child", "--fork", "sleep", "infinity"],
            start_new_session=True,
        )
        self._in_switch("ip", "link", "add", "bridge", "type", "bridge")
        self._in_switch("ip", "link", "set", "bridge", "up")

    def add(self, name: str, address: str) -> None:
        """A new machine with a fresh disk and an identity of its own, switched on."""
        folder = self.scratch / "machines" / name
        folder.mkdir()
        (folder / "address").write_text(address)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        subprocess.run(["cp", "-a", self.scratch / "image", folder / "home"], check=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key"], check=True
        )
        (folder / "sshd_config").write_text(
            f"HostKey {folder}/host_key\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nMaxStartups 100\nPidFile none\n"
            "Subsystem sftp internal-sftp\n"
        )
        self.switch_on(name)

    def switch_on(self, name: str) -> None:
        """Start a machine from its disk; /tmp is empty, and sshd runs."""
        folder = self.scratch / "machines" / name
        address = (folder / "address").read_text()
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)
        command = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
        machine = subprocess.Popen(
            [*command, "bash", HERE / "machine.sh", name, self.scratch, self._python, self._closed],
            start_new_session=True,
        )
        self._machines[name] = machine
        first = _first_process(machine)
        port = f"to-{name}"[:15]
        self._in_switch(
            "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(first)
        )
        self._in_switch("ip", "link", "set", port, "master", "bridge", "up")
        for words in (
            ["link", "set", "lo", "up"],
            ["address", "add", f"{address}/{SUBNET}", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["route", "add", "default", "dev", "eth0"],
        ):
            subprocess.run(["nsenter", "-t", str(first), "--net", "ip", *words], check=True)

    def cut_power(self, name: str) -> None:
        """End every process of a machine at once; its disk stays."""
        machine = self._machines.pop(name)
        machine.kill()
        machine.wait()

    def command(self, name: str, *words: str | Path, root: bool = False) -> list[str]:
        """A command line that runs `words` on a machine as its user, in a clean environment."""
        user = [] if root else ["--setuid", str(UID), "--setgid", str(UID)]
        path = f"{self.home}/rfray-environment/bin:{self._python}/bin:/usr/bin:/bin:/usr/sbin"
        clean = ["env", "-i", f"HOME={self.home}", f"USER={USER}", f"PATH={path}", "TERM=dumb"]
        first = _first_process(self._machines[name])
        enter = ["nsenter", "-t", str(first), *NAMESPACES, *user, f"--wdns={self.home}"]
        return [*enter, *clean, *map(str, words)]

    def command_lines(self, name: str) -> str:
        """What `ps` shows on a machine."""
        return subprocess.run(
            self.command(name, "ps", "-eo", "args", "--no-headers", "-ww"),
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    def close(self) -> None:
        """Switch everything off."""
        for name in list(self._machines):
            self.cut_power(name)
        self._switch.kill()
        self._switch.wait()

    def _in_switch(self, *words: str) -> None:
        first = str(_first_process(self._switch))
        subprocess.run(["nsenter", "-t", first, "--net", *words], check=True)

    def _write_accounts(self) -> None:
        etc = self.scratch / "etc"
        lines = {
            "passwd": f"{USER}:x:{UID}:{UID}::{self.home}:/bin/bash",
            "shadow": f"{USER}:*:19000:0:99999:7:::",
            "group": f"{USER}:x:{UID}:",
        }
        for name, line in lines.items():
            kept = [
                other
                for other in Path("/etc", name).read_text().splitlines()
                if not other.startswith(f"{USER}:")
            ]
            (etc / name).write_text("\n".join([*kept, line, ""]))
        (etc / "shadow").chmod(0o600)

    def _make_key(self) -> None:
        key = self.scratch / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

    def _make_image(self) -> None:
        """The disk that every machine starts with: the big packages are there, rfray is not."""
        image = self.scratch / "image"
        shutil.copytree("/etc/skel", image)
        (image / ".ssh").mkdir()
        shutil.copy(self.scratch / "key.pub", image / ".ssh" / "authorized_keys")
        python = self._python / "bin" / f"python{sysconfig.get_python_version()}"
        with (image / ".profile").open("a") as file:
            file.write(f"export PYTHON={python}\n")
        wheels = self.scratch / "wheels"
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels]
        subprocess.run([*download, *BUILD_TOOLS], check=True)
        (image / ".config" / "pip").mkdir(parents=True)
        (image / ".config" / "pip" / "pip.conf").write_text(
            f"[global]\nno-index = true\nfind-links = {wheels}\n"
        )
        _bake(image / "rfray-environment", self.home / "rfray-environment", python)
        environment = image / "rfray-environment"
        (packages,) = environment.glob("lib/python*/site-packages")
        for old in packages.glob("setuptools*"):  # venv's own would hide the installed one
            shutil.rmtree(old)
        (packages / "installed.pth").write_text(
            "".join(f"{self.scratch}/packages-{i}\n" for i in range(len(self._packages)))
        )
        own(image)


def _installed() -> tuple[Path, list[Path]]:
    """This Python's installation, and the folders of packages that it uses."""
    folders = [Path(entry) for entry in sys.path if Path(entry).name in _PACKAGE_FOLDERS]
    return Path(sys.base_prefix), folders


_PACKAGE_FOLDERS = {Path(folder).name for folder in site.getsitepackages()}


def _closed_above(path: Path) -> str:
    """The topmost folder above `path` that only its owner may enter; empty if there is none."""
    closed = [folder for folder in path.parents if not folder.stat().st_mode & 0o001]
    return str(closed[-1]) if closed else ""


def _bake(image: Path, there: Path, python: Path) -> None:
    """A virtual environment in `image` that will stand at `there`, with the packages' commands."""
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", image], check=True)
    configuration = image / "pyvenv.cfg"
    configuration.write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    scripts = image / "bin"
    for link in scripts.glob("python*"):
        link.unlink()
        link.symlink_to(python)
    for name in ("ray", "mlflow", "uvicorn"):
        entry = next(iter(entry_points(group="console_scripts", name=name)))
        (scripts / name).write_text(
            f"#!{there}/bin/python\nimport sys\nfrom {entry.module} import {entry.attr}\n"
            f"sys.exit({entry.attr}())\n"
        )
        (scripts / name).chmod(0o755)


def own(folder: Path) -> None:
    subprocess.run(["chown", "-R", f"{UID}:{UID}", folder], check=True)


def _first_process(holder: subprocess.Popen[bytes]) -> int:
    """The process that `unshare` started: the first one inside the namespaces."""
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    for _ in range(200):
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.05)
    raise TimeoutError("unshare started nothing")
