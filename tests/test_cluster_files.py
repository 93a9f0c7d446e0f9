"""The files that start a cluster: valid by Ray's own check, and right where it is silent."""

from __future__ import annotations

import copy
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config, validate_config

from rfray.engine.places import Occupancy
from rfray.engine.prospects import read_prospects
from rfray.storage import storage_at

CHECKOUT = Path(__file__).resolve().parent.parent
CLUSTER = CHECKOUT / "cluster"
FILES = [CHECKOUT / "cluster.yaml", CLUSTER / "gcp.yaml", CLUSTER / "local.yaml"]
SCRIPTS = sorted([*CLUSTER.glob("*.sh"), *CLUSTER.glob("*.sbatch")])
SOURCED = {"environment.sh", "meeting.sh"}
AWS = yaml.safe_load((CHECKOUT / "cluster.yaml").read_text())
GCP = yaml.safe_load((CLUSTER / "gcp.yaml").read_text())
NODE_TYPES = AWS["available_node_types"]
KUBERNETES = list(yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text()))


class _StackLoader(yaml.SafeLoader):
    """Reads CloudFormation: `!Ref name` becomes `("Ref", "name")`."""


_StackLoader.add_multi_constructor(
    "!", lambda loader, tag, node: (tag, loader.construct_scalar(node))
)
STACK = yaml.load((CLUSTER / "aws-stack.yaml").read_text(), Loader=_StackLoader)["Resources"]


def read(path):
    return yaml.safe_load(path.read_text())


def commands(config):
    names = ("setup_commands", "head_setup_commands", "worker_setup_commands")
    names += ("head_start_ray_commands", "worker_start_ray_commands", "initialization_commands")
    return [command for name in names for command in config.get(name, [])]


def stack_values(kind, name):
    return {resource["Properties"][name] for resource in STACK.values() if resource["Type"] == kind}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestEveryClusterFile:
    def test_passes_the_validation_of_the_launcher(self, path):
        validate_config(prepare_config(read(path)))

    def test_would_not_pass_with_a_key_that_the_launcher_does_not_know(self, path):
        with pytest.raises(jsonschema.ValidationError):
            validate_config(prepare_config({**read(path), "ilde_timeout_minutes": 5}))

    def test_names_its_cluster_and_lets_idle_workers_go(self, path):
        config = read(path)
        assert config["cluster_name"].startswith("rfray")
        assert config["idle_timeout_minutes"] > 0

    def test_has_no_worker_before_there_is_work_and_says_what_each_offers(self, path):
        config = prepare_config(read(path))
        prospects = read_prospects(_filled_in(config))
        assert not prospects.untold
        assert prospects.kinds
        assert any(kind.machine.occupancy.gpus for kind in prospects.kinds)
        assert prospects.head.occupancy == Occupancy(0, 0)
        assert all(kind["min_workers"] == 0 for kind in config["available_node_types"].values())

    def test_runs_no_command_but_its_own(self, path):
        prepared = prepare_config(copy.deepcopy(read(path)))
        assert set(commands(prepared)) == set(commands(read(path)))

    def test_starts_ray_by_the_shared_scripts_alone(self, path):
        config = read(path)
        head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
        assert len(head) == len(worker) == 1
        assert "~/rfray/cluster/start-head.sh" in head[0]
        assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head[0]
        assert worker == ["bash ~/rfray/cluster/start-worker.sh"]

    def test_installs_by_the_shared_script_alone(self, path):
        assert read(path)["setup_commands"][-1] == "bash ~/rfray/cluster/install.sh"
        assert not any("pip" in command for command in commands(read(path)))

    def test_calls_only_scripts_that_are_there(self, path):
        called = re.findall(r"~/rfray/(\S+\.sh)", "\n".join(commands(read(path))))
        assert called
        assert all((CHECKOUT / script).is_file() for script in called)

    def test_carries_the_code_from_here_and_the_secrets_from_the_head(self, path):
        config = read(path)
        assert config["file_mounts"] == {"~/rfray": "."}
        assert config["cluster_synced_files"] == ["~/.ray/auth_token", "~/.mlflow/credentials"]


class TestAws:
    def test_files_for_one_provider_have_different_names(self):
        names = {(read(path)["provider"]["type"], read(path)["cluster_name"]) for path in FILES}
        assert len(names) == len(FILES)

    @pytest.mark.parametrize("name", NODE_TYPES)
    def test_every_node_has_an_image_that_the_stack_fixes(self, name):
        parameter = NODE_TYPES[name]["node_config"]["ImageId"].removeprefix("resolve:ssm:")
        (image,) = [
            resource["Properties"]
            for resource in STACK.values()
            if resource["Type"] == "AWS::SSM::Parameter"
            and resource["Properties"]["Name"] == parameter
        ]
        assert image["DataType"] == "aws:ec2:image"

    @pytest.mark.parametrize("name", NODE_TYPES)
    def test_every_node_has_a_profile_of_the_stack(self, name):
        profile = NODE_TYPES[name]["node_config"]["IamInstanceProfile"]["Name"]
        assert profile in stack_values("AWS::IAM::InstanceProfile", "InstanceProfileName")

    @pytest.mark.parametrize("name", NODE_TYPES)
    def test_no_node_gives_its_credentials_to_a_forged_request(self, name):
        assert NODE_TYPES[name]["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}

    def test_the_head_is_on_demand_and_computes_nothing(self):
        head = NODE_TYPES[AWS["head_node_type"]]
        assert head["resources"] == {"CPU": 0}
        assert "InstanceMarketOptions" not in head["node_config"]

    def test_the_workers_are_spot_instances_with_two_kinds_of_gpu(self):
        workers = [kind for name, kind in NODE_TYPES.items() if name != AWS["head_node_type"]]
        types = {worker["node_config"]["InstanceType"].partition(".")[0] for worker in workers}
        assert types == {"g5", "g6"}
        for worker in workers:
            assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
            assert worker["min_workers"] == 0 < worker["max_workers"] <= AWS["max_workers"]

    def test_ssh_is_the_only_port_open_to_the_world(self):
        groups = [r for r in STACK.values() if r["Type"] == "AWS::EC2::SecurityGroup"]
        open_ports = [
            (rule["FromPort"], rule["ToPort"])
            for group in groups
            for rule in group["Properties"]["SecurityGroupIngress"]
        ]
        assert open_ports == [(22, 22)]
        separate = [
            resource["Properties"]
            for resource in STACK.values()
            if resource["Type"] == "AWS::EC2::SecurityGroupIngress"
        ]
        assert all("SourceSecurityGroupId" in rule and "CidrIp" not in rule for rule in separate)
        names = stack_values("AWS::EC2::SecurityGroup", "GroupName")
        assert {AWS["provider"]["security_group"]["GroupName"]} == names
        assert "IpPermissions" not in AWS["provider"]["security_group"]

    def test_the_bucket_is_closed_to_the_public(self):
        (closed,) = stack_properties("AWS::S3::Bucket", "PublicAccessBlockConfiguration")
        assert set(closed.values()) == {True}
        assert len(closed) == 4

    def test_what_a_node_asks_the_stack_for_is_there(self):
        asked = re.findall(r"\(parameter (\S+)\)", (CLUSTER / "aws-node.sh").read_text())
        assert len(asked) == 2
        assert set(asked) <= stack_values("AWS::SSM::Parameter", "Name")


class TestGoogle:
    types = GCP["available_node_types"]
    workers = [kind for name, kind in types.items() if name != GCP["head_node_type"]]

    def test_the_workers_are_spot_machines_with_two_kinds_of_gpu(self):
        assert {w["node_config"]["machineType"].partition("-")[0] for w in self.workers} == {
            "g2", "n1",
        }  # fmt: skip
        for worker in self.workers:
            assert {"preemptible": True} in worker["node_config"]["scheduling"]
            assert {"onHostMaintenance": "TERMINATE"} in worker["node_config"]["scheduling"]

    def test_every_machine_has_the_same_disk_and_image(self):
        assert len({str(kind["node_config"]["disks"]) for kind in self.types.values()}) == 1


class TestKubernetes:
    """Against the operator's reference (ray-project/kuberay, docs/reference/api.md, 1.4)."""

    cluster = {
        "suspend", "managedBy", "autoscalerOptions", "headServiceAnnotations",
        "enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec", "rayVersion",
        "workerGroupSpecs",
    }  # fmt: skip
    autoscaler = {
        "resources", "image", "imagePullPolicy", "securityContext", "idleTimeoutSeconds",
        "upscalingMode", "version", "env", "envFrom", "volumeMounts",
    }  # fmt: skip
    head = {"template", "headService", "enableIngress", "rayStartParams", "serviceType"}
    workers = {
        "suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds",
        "rayStartParams", "template", "scaleStrategy", "numOfHosts",
    }  # fmt: skip
    job = {
        "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate",
        "metadata", "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy",
        "entrypoint", "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources",
        "entrypointNumCpus", "entrypointNumGpus", "ttlSecondsAfterFinished",
        "shutdownAfterJobFinishes", "suspend",
    }  # fmt: skip

    @staticmethod
    def of(kind):
        (found,) = [document for document in KUBERNETES if document["kind"] == kind]
        return found

    def pods(self):
        spec = self.of("RayCluster")["spec"]
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
        return [group["template"]["spec"] for group in groups]

    def test_the_operator_knows_every_field(self):
        spec = self.of("RayCluster")["spec"]
        assert spec.keys() <= self.cluster
        assert spec["autoscalerOptions"].keys() <= self.autoscaler
        assert spec["autoscalerOptions"]["version"] in ("v1", "v2")
        assert spec["headGroupSpec"].keys() <= self.head
        assert all(group.keys() <= self.workers for group in spec["workerGroupSpecs"])
        assert self.of("RayJob")["spec"].keys() <= self.job
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())

    def test_rays_own_translation_finds_what_it_could_have(self):
        described = copy.deepcopy(self.of("RayCluster"))
        described["metadata"]["namespace"] = "default"
        prospects = read_prospects(_derive_autoscaling_config_from_ray_cr(described))
        assert {kind.name for kind in prospects.kinds} == {"l4", "t4"}
        assert all(kind.machine.occupancy.gpus == 1 for kind in prospects.kinds)
        assert prospects.head.occupancy == Occupancy(0, 0)

    def test_no_worker_is_there_before_there_is_work(self):
        for group in self.of("RayCluster")["spec"]["workerGroupSpecs"]:
            assert group["replicas"] == group["minReplicas"] == 0 < group["maxReplicas"]

    def test_pods_are_what_the_second_autoscaler_and_rfray_need(self):
        for pod in self.pods():
            (container,) = pod["containers"]
            names = {variable["name"] for variable in container["env"]}
            assert {"RAY_AUTH_TOKEN", "MLFLOW_TRACKING_URI", "RFRAY_STORAGE"} <= names
            assert pod["restartPolicy"] == "Never"
            claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]]
            assert claims == [self.of("PersistentVolumeClaim")["metadata"]["name"]]

    def test_no_token_stands_in_the_file(self):
        text = (CLUSTER / "kuberay.yaml").read_text()
        assert text.count("RAY_AUTH_TOKEN") == text.count("secretKeyRef")

    def test_the_job_runs_on_that_cluster(self):
        selected = self.of("RayJob")["spec"]["clusterSelector"]
        assert selected == {"ray.io/cluster": self.of("RayCluster")["metadata"]["name"]}

    def test_it_is_the_pinned_ray(self):
        version = str(self.of("RayCluster")["spec"]["rayVersion"])
        assert version == TestVersions.pins["ray"]
        assert f"FROM rayproject/ray:{version}-" in (CHECKOUT / "Dockerfile").read_text()


def _filled_in(config):
    """As AWS would fill in what the file leaves to the instance type."""
    types = copy.deepcopy(config["available_node_types"])
    for kind in types.values():
        if config["provider"]["type"] == "aws" and not kind["resources"]:
            kind["resources"] = {"CPU": 8, "GPU": 1}
    return {**config, "available_node_types": types}


def stack_properties(kind, name):
    return [r["Properties"][name] for r in STACK.values() if r["Type"] == kind]


class TestVersions:
    pins = dict(
        line.split("==")
        for line in (CLUSTER / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    needed = [
        Requirement(text)
        for text in [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    ]

    def test_every_package_that_rfray_names_is_pinned_within_its_range(self):
        for requirement in self.needed:
            assert requirement.name in self.pins
            assert requirement.specifier.contains(self.pins[requirement.name])

    def test_nothing_else_is_pinned(self):
        assert set(self.pins) == {requirement.name for requirement in self.needed}


class TestScripts:
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    def test_bash_can_read_it(self, script):
        subprocess.run(["bash", "-n", script], check=True)

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
    def test_it_stops_at_the_first_error(self, script):
        if script.name in SOURCED:  # a login shell must not end at an error
            assert "set -" not in script.read_text()
        else:
            assert "\nset -euo pipefail\n" in script.read_text()

    def test_ray_is_started_in_three_places_alone(self):
        calls = re.compile(r"^[^#\n]*\bray start ", re.MULTILINE)
        starting = {script.name for script in SCRIPTS if calls.search(script.read_text())}
        assert starting == {"start-head.sh", "start-worker.sh", "meeting.sh"}

    def test_slurm_calls_only_scripts_that_are_there(self):
        called = re.findall(r"\$here/(\S+\.sh)", (CLUSTER / "slurm.sbatch").read_text())
        assert {"start-head.sh", "start-worker.sh", "mlflow.sh"} <= set(called)
        assert all((CLUSTER / script).is_file() for script in called)

    def test_the_docs_tell_of_every_file(self):
        text = (CHECKOUT / "docs" / "clusters.md").read_text()
        others = ["aws-stack.yaml", "kuberay.yaml"]
        named = [*FILES, *(CLUSTER / name for name in others), *CLUSTER.glob("*.sbatch")]
        for path in named:
            assert str(path.relative_to(CHECKOUT)) in text


@pytest.fixture
def node(tmp_path):
    """Runs a script of `cluster/` as on a machine of its own, whose home is `tmp_path`."""

    def run(script, *arguments, **environment):
        return subprocess.run(
            ["bash", CLUSTER / script, *map(str, arguments)],
            env={
                "PATH": os.environ["PATH"], "HOME": str(tmp_path),
                "RFRAY_ENVIRONMENT": sys.prefix, **environment,
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


class TestSecrets:
    files = (".ray/auth_token", ".mlflow/credentials", ".rfray/flask_secret")

    def test_they_are_made_once_and_are_their_owners_alone(self, node, tmp_path):
        first = node("secrets.sh")
        assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
        made = {name: (tmp_path / name).read_text() for name in self.files}
        assert all(len(text) > 60 for text in made.values())
        assert len(set(made.values())) == len(made)
        for name in self.files:
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert node("secrets.sh").returncode == 0
        assert {name: (tmp_path / name).read_text() for name in self.files} == made

    def test_they_come_from_the_environment_where_it_has_them(self, node, tmp_path):
        node("secrets.sh", RAY_AUTH_TOKEN="a token", MLFLOW_TRACKING_PASSWORD="a password")
        assert (tmp_path / ".ray/auth_token").read_text() == "a token"
        assert (
            "mlflow_tracking_password = a password"
            in (tmp_path / ".mlflow/credentials").read_text()
        )

    def test_a_worker_without_them_does_not_start(self, node):
        refused = node("start-worker.sh", RAY_HEAD_IP="192.0.2.1")
        assert refused.returncode == 1
        assert "no " in refused.stderr
        assert "auth_token: copy it from the head" in refused.stderr


class TestStorage:
    def test_a_node_without_the_shared_folder_does_not_join(self, node, tmp_path):
        refused = node("use-storage.sh", tmp_path / "nowhere")
        assert refused.returncode == 1
        assert "mount the shared folder first" in refused.stderr
        assert not (tmp_path / ".rfray" / "storage.sh").exists()

    def test_what_a_login_sees_is_where_rfray_writes(self, node, tmp_path, monkeypatch):
        shared = tmp_path / "shared folder"
        shared.mkdir()
        assert node("use-storage.sh", shared, "s3://bucket/artifacts").returncode == 0
        assert list(shared.iterdir()) == []
        login = f". {CLUSTER}/environment.sh; . {CLUSTER}/environment.sh; printenv"
        seen = subprocess.run(
            ["bash", "-c", login], env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        variables = dict(line.split("=", 1) for line in seen.stdout.splitlines() if "=" in line)
        assert variables["RFRAY_ARTIFACTS"] == "s3://bucket/artifacts"
        assert variables["RAY_AUTH_MODE"] == "token"
        assert variables["PATH"] == f"{tmp_path}/rfray-environment/bin:/usr/bin:/bin"
        monkeypatch.setenv("RFRAY_STORAGE", variables["RFRAY_STORAGE"])
        assert storage_at(None, None).root == shared
        assert storage_at(str(tmp_path), None).root == tmp_path


@pytest.fixture
def task(tmp_path):
    """Runs a script, or lines with meeting.sh sourced, as a task of a Slurm array that `scontrol`
    only pretends to serve; its storage folder is `tmp_path / "store"`."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\necho "scontrol $*"\n')
    scontrol.chmod(0o755)

    def run(*command, **environment):
        return subprocess.run(
            ["bash", *map(str, command)],
            env={
                "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path),
                "RFRAY_ENVIRONMENT": sys.prefix, "PYTHONPATH": str(CHECKOUT),
                "RFRAY_STORAGE": str(tmp_path / "store"), "SLURM_SUBMIT_DIR": str(CHECKOUT),
                "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", **environment,
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def met(lines):
    """The command of a shell that runs `lines` with meeting.sh sourced."""
    return "-c", f"set -euo pipefail; here={CLUSTER}; . $here/meeting.sh; {lines}"


class TestSlurm:
    def test_a_worker_is_told_of_its_time_limit_before_it_comes(self):
        for script in ("driver.sbatch", "worker.sbatch"):
            (signal,) = re.findall(r"#SBATCH --signal=B:USR1@(\d+)", (CLUSTER / script).read_text())
            assert int(signal) >= 120

    def test_what_runs_may_go_on_for_less_than_is_left(self):
        text = (CLUSTER / "worker.sbatch").read_text()
        left = re.findall(r"RFRAY_LEAVE_SECONDS:-(\d+)", text)
        assert set(left) == {"90"}

    def test_a_worker_goes_at_once_where_the_sweep_has_ended(self, task, tmp_path):
        (tmp_path / "store" / "meeting").mkdir(parents=True)
        (tmp_path / "store" / "meeting" / "over").touch()
        ended = task(CLUSTER / "worker.sbatch")
        assert ended.returncode == 0
        assert "the sweep has ended" in ended.stdout

    def test_a_worker_without_a_driver_says_what_to_start(self, task):
        ended = task(CLUSTER / "worker.sbatch", RFRAY_WAIT_SECONDS="0")
        assert ended.returncode == 1
        assert ended.stderr.strip().endswith("start cluster/driver.sbatch first")

    def test_an_address_where_nothing_listens_is_no_driver(self, task, tmp_path):
        meeting = tmp_path / "store" / "meeting"
        meeting.mkdir(parents=True)
        (meeting / "address").write_text("127.0.0.1:1")
        (meeting / "token").write_text("a token")
        ended = task(CLUSTER / "worker.sbatch", RFRAY_WAIT_SECONDS="0")
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr

    def test_a_task_of_an_array_is_queued_again_and_not_the_array(self, task):
        array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
        assert "scontrol requeue 7_3\n" in task(*met("queue_again"), **array).stdout

    def test_a_job_that_is_no_array_is_queued_again(self, task):
        assert "scontrol requeue 7\n" in task(*met("queue_again")).stdout

    @pytest.mark.parametrize(
        ("given", "count"),
        [(None, 0), ("", 0), ("NoDevFiles", 0), ("3", 1), ("0,2", 2), ("MIG-a,MIG-b", 2)],
    )
    def test_a_worker_offers_the_gpus_that_it_was_given(self, task, given, count):
        visible = {} if given is None else {"CUDA_VISIBLE_DEVICES": given}
        assert task(*met("gpus_of_task"), **visible).stdout == f"{count}\n"

    def test_what_others_left_in_the_environment_is_not_meant(self, task):
        left = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_TOKEN": "another"}
        seen = task(*met("env"), **left).stdout
        assert "another" not in seen
        assert "RAY_ADDRESS" not in seen

    def test_rays_sockets_fit_whatever_the_folder_for_files_that_go(self, task, tmp_path):
        long = tmp_path / ("long" * 10)
        long.mkdir()
        for place in (long, tmp_path / "nowhere"):
            made = Path(task(*met("private_folder"), TMPDIR=str(place)).stdout.strip())
            assert made.parent == Path("/tmp")
            assert stat.S_IMODE(made.stat().st_mode) == 0o700
            made.rmdir()

    def test_the_folder_where_they_meet_is_its_owners_alone(self, task, tmp_path):
        task(*met("true"))
        assert stat.S_IMODE((tmp_path / "store" / "meeting").stat().st_mode) == 0o700
