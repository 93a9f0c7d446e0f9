"""A study as one file: exported, imported elsewhere, refused where it is not what was written."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import resource
import shutil
import sqlite3
import subprocess
import tarfile
from collections import Counter, namedtuple
from contextlib import closing
from dataclasses import replace

import pytest
import zstandard
from serving import served
from tiny_study import TINY_SWEEP

from rfray.analysis import analyze, load_report
from rfray.cli import main
from rfray.driver.lease import folder_lock
from rfray.driver.sweep_run import prepared, run_sweep
from rfray.engine.executor import InProcessExecutor
from rfray.engine.frontier import State
from rfray.engine.view import Watcher
from rfray.errors import UserError
from rfray.files.artifacts import RESULT, check_files, local_path
from rfray.plan import make_plan
from rfray.sharing import export_study, import_study, vetted
from rfray.sharing.packing import all_artifacts
from rfray.sharing.seal import SEAL_BYTES, seal
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study, shipped_folder
from rfray.tracking import (
    KEY_TAG,
    ORIGIN_TAG,
    PARENT_TAG,
    STUDY_TAG,
    Ledger,
    LedgerWriter,
    make_database,
)
from rfray.training.weight_files import CHANGES, MODEL, WEIGHT_FILES

pytestmark = pytest.mark.xdist_group("sharing")

SMALL = ("prune.rates=[0.5]", "finetune=false", "importance=false", "hessian.at=[init]")
RUNS = 7
"""Two networks, each trained, pruned and measured, and their alignment."""

GROWN = (*SMALL, "axes.seed=[0,1,2]")
NEW = {
    "vgg19_rf-digits-k5-seed2/train",
    "vgg19_rf-digits-k5-seed2/prune-0.5",
    "vgg19_rf-digits-k5-seed2/hessian-init",
    "vgg19_rf-digits-k5/cka",
}


def quiet(_):
    """Who is told of runs, and does not care."""


def sweep(sweep_file, place, *overrides):
    """Run what is missing; names of the runs that were computed."""
    computed = []
    watcher = Watcher(ended=lambda end: computed.append(end.node.name), looked=lambda view: None)
    plan = make_plan(load_study(str(sweep_file), overrides))
    with prepared(plan, place) as ready:
        frontier = run_sweep(ready, place, InProcessExecutor, watcher)
    assert set(frontier.states.values()) == {State.DONE}
    return computed


def runs_at(place, study="tiny"):
    return list(Ledger(place.tracking_uri).runs(study))


def weight_files(place):
    return {path.name for path in place.root.rglob("*") if path.name in WEIGHT_FILES}


def told_by(place):
    """All that a study's runs say, by origin: what must be equal wherever it lies."""
    ledger = Ledger(place.tracking_uri)
    runs = runs_at(place)
    origins = {run.run_id: run.tags.get(ORIGIN_TAG, run.run_id) for run in runs}
    apart = (ORIGIN_TAG, PARENT_TAG)
    return {
        origins[run.run_id]: (
            run.name,
            run.status,
            run.start_time,
            run.end_time,
            {name: text for name, text in run.tags.items() if name not in apart},
            origins.get(run.tags.get(PARENT_TAG)),
            run.params,
            list(ledger.measured(run)),
        )
        for run in runs
    }


def tables(place, out):
    """Every table of the shipped report, by name; without what names the store."""
    report = load_report(shipped_folder("analysis") / "paper.yaml")
    only_tables = replace(report, layout=report.layout.model_copy(update={"figures": []}))
    analyze(Ledger(place.tracking_uri), "tiny", only_tables, out)
    return {path.name: path.read_text() for path in sorted((out / "tables").glob("*.csv"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished study in `results`, and its archive; nothing here is changed."""
    made = tmp_path_factory.mktemp("shared")
    (made / "tiny.yaml").write_text(TINY_SWEEP)
    place = storage_at(str(made / "results"), None)
    assert len(sweep(made / "tiny.yaml", place, *SMALL)) == RUNS
    ledger = Ledger(place.tracking_uri)
    export_study(ledger, "tiny", made / "tiny.tar.zst", all_artifacts, quiet)
    return made


@pytest.fixture
def archive(folder):
    return folder / "tiny.tar.zst"


@pytest.fixture
def here(folder):
    return storage_at(str(folder / "results"), None)


@pytest.fixture
def there(tmp_path):
    return storage_at(str(tmp_path / "there"), None)


def test_an_imported_study_says_what_the_exported_one_says(archive, here, there, tmp_path):
    done = import_study(vetted(archive), there, quiet)
    assert (done.new, done.completed, done.there) == (RUNS, 0, 0)
    assert told_by(there) == told_by(here)
    ours, theirs = (Ledger(place.tracking_uri).experiment_tags("tiny") for place in (here, there))
    assert theirs[STUDY_TAG] == ours[STUDY_TAG]
    assert theirs["mlflow.note.content"] == ours["mlflow.note.content"]
    for run in runs_at(there):
        artifacts = local_path(run.artifact_uri)
        assert artifacts.is_relative_to(there.root)
        check_files(artifacts, json.loads((artifacts / RESULT).read_text())["digests"])
    assert not list(there.root.glob(".import-*"))
    assert tables(there, tmp_path / "b") == tables(here, tmp_path / "a")


def test_again_and_again_makes_no_doubles_and_export_gives_the_same_bytes(
    archive, here, there, tmp_path
):
    import_study(vetted(archive), there, quiet)
    before = told_by(there)
    again = import_study(vetted(archive), there, quiet)
    assert (again.new, again.there) == (0, RUNS)
    assert told_by(there) == before
    # Where it was computed it is known too, and so is an archive of the copy.
    assert import_study(vetted(archive), here, quiet).there == RUNS
    back = tmp_path / "back.tar.zst"
    export_study(Ledger(there.tracking_uri), "tiny", back, all_artifacts, quiet)
    assert import_study(vetted(back), here, quiet).there == RUNS
    second = tmp_path / "second.tar.zst"
    export_study(Ledger(here.tracking_uri), "tiny", second, all_artifacts, quiet)
    assert second.read_bytes() == archive.read_bytes()


def test_work_that_the_store_has_done_itself_is_not_written_beside_it(folder, archive, there):
    sweep(folder / "tiny.yaml", there, *SMALL, "axes.seed=[0]", "cka=false")
    own = {run.run_id for run in runs_at(there)}
    done = import_study(vetted(archive), there, quiet)
    assert done.other_plan
    assert (done.new, done.there) == (RUNS - len(own), len(own))
    keys = Counter(run.tags[KEY_TAG] for run in runs_at(there))
    assert set(keys.values()) == {1}


def test_half_an_import_goes_on_and_is_nothing_to_a_sweep_before(
    folder, archive, here, there, monkeypatch
):
    sent = []

    def dies(self, run_id, file, above):
        sent.append(file.name)
        if len(sent) == 6:
            raise KeyboardInterrupt
        self.client.log_artifact(run_id, str(file), above or None)

    with monkeypatch.context() as patch:
        patch.setattr("rfray.tracking.LedgerWriter.send_artifact", dies)
        with pytest.raises(KeyboardInterrupt):
            import_study(vetted(archive), there, quiet)
    half = Counter(run.status for run in runs_at(there))
    assert half["RUNNING"] == 1
    assert half["FINISHED"] >= 1
    done = import_study(vetted(archive), there, quiet)
    assert done.new == RUNS - half["FINISHED"]
    assert told_by(there) == told_by(here)
    assert sweep(folder / "tiny.yaml", there, *SMALL) == []


def test_without_weights_it_is_small_and_the_weights_can_follow(
    archive, here, there, tmp_path, capsys
):
    small = tmp_path / "small.tar.zst"
    storage = ["--storage", str(here.root)]
    assert exit_code("export", "tiny", small, "--without-weights", *storage) == 0
    assert small.stat().st_size < archive.stat().st_size / 3
    assert "4 files of runs are not in it" in capsys.readouterr().err
    assert exit_code("import", small, "--storage", there.root) == 0
    assert "7 runs imported, 0 completed, 0 were there" in capsys.readouterr().out
    assert tables(there, tmp_path / "b") == tables(here, tmp_path / "a")
    assert weight_files(there) == set()
    done = import_study(vetted(archive), there, quiet)
    assert (done.new, done.completed) == (0, 4)
    assert weight_files(there) == {MODEL, CHANGES}


def test_a_reader_without_rfray_finds_csv_files_and_a_readme(
    archive, here, tmp_path, monkeypatch, capsys
):
    with (
        archive.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        tar.extractall(tmp_path)
    study = tmp_path / "tiny"
    (example,) = re.findall("```python\n(.*?)```", (study / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(study)
    exec(example, {})
    assert "train_loss" in capsys.readouterr().out
    rows = list(csv.DictReader((study / "runs.csv").open()))
    runs = {run.run_id: run for run in runs_at(here)}
    assert {row["run_id"] for row in rows} == set(runs)
    for row in rows:
        run = runs[row["run_id"]]
        assert {n.removeprefix("metrics."): float(v) for n, v in row.items()
                if n.startswith("metrics.") and v} == run.metrics  # fmt: skip
        history = list(csv.DictReader((study / row["folder"] / "metrics.csv").open()))
        assert {entry["metric"] for entry in history} == set(run.metrics)
    check = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=study, check=False)
    assert check.returncode == 0


# What is refused: one line, exit code 2, nothing lost.


def exit_code(*arguments):
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return left.value.code


def refused(capsys, *arguments):
    """The one line that a command leaves with."""
    capsys.readouterr()
    assert exit_code(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    return line


def test_an_archive_of_which_any_byte_differs_or_lacks_is_refused(archive, tmp_path):
    content = archive.read_bytes()
    changed = tmp_path / "changed.tar.zst"
    places = {*range(40), *range(len(content) - SEAL_BYTES - 8, len(content))}
    places |= set(range(0, len(content), max(1, len(content) // 50)))
    for place in sorted(places):
        broken = bytearray(content)
        broken[place] ^= 1
        changed.write_bytes(broken)
        with pytest.raises(UserError):
            vetted(changed)
        changed.write_bytes(content[:place])
        with pytest.raises(UserError):
            vetted(changed)


def forged(path, members, study="tiny", version=1):
    """An archive as one who means harm would make it: sealed, its digests right."""
    form = {"format": "rfray study", "version": version, "study": study, "rfray": "9", "runs": 0}
    head = [("tiny/format.json", json.dumps(form)), ("tiny/study.json", '{"document": null}')]
    digests = {}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for entry in [*head, *members]:
            member, text = entry if isinstance(entry, tuple) else (entry, "")
            if isinstance(member, str):
                member = tarfile.TarInfo(member)
            content = text.encode()
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            digests[member.name.removeprefix("tiny/")] = hashlib.sha256(content).hexdigest()
        sums = "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()
        last = tarfile.TarInfo("tiny/SHA256SUMS")
        last.size = len(sums)
        tar.addfile(last, io.BytesIO(sums))
    path.write_bytes(zstandard.ZstdCompressor().compress(packed.getvalue()))
    seal(path)
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def device(name):
    member = tarfile.TarInfo(name)
    member.type = tarfile.CHRTYPE
    return member


LEAVING = {
    "up": [("tiny/../../up", "x")],
    "above": [("../up", "x")],
    "absolute": [("/tmp/absolute", "x")],
    "elsewhere": [("other/file", "x")],
    "symbolic link": [link("tiny/link", "/etc/passwd")],
    "hard link": [link("tiny/link", "tiny/format.json", tarfile.LNKTYPE)],
    "device": [device("tiny/device")],
    "twice": [("tiny/a", "x"), ("tiny/a", "y")],
}


@pytest.mark.parametrize("what", LEAVING)
def test_a_member_that_leaves_the_folder_is_refused(what, tmp_path, there, capsys):
    path = forged(tmp_path / "forged.tar.zst", LEAVING[what])
    line = refused(capsys, "import", path, "--storage", there.root)
    assert "the archive cannot be used" in line
    assert not there.root.exists()


def test_what_is_no_archive_or_of_another_version_is_refused(tmp_path, there, archive, capsys):
    odd = {
        "it is of version 2": forged(tmp_path / "a", [], version=2),
        "'study'": forged(tmp_path / "b", [], study="../up"),
        "not an archive of a study": tmp_path / "c",
        "No such file": tmp_path / "missing",
        "cut off": tmp_path / "d",
        "its SHA-256 differs": tmp_path / "e",
    }
    (tmp_path / "c").write_text("a text")
    (tmp_path / "d").write_bytes(archive.read_bytes()[:-1000])
    changed = bytearray(archive.read_bytes())
    changed[5000] ^= 1
    (tmp_path / "e").write_bytes(changed)
    for says, path in odd.items():
        assert says in refused(capsys, "import", path, "--storage", there.root)
    assert not there.root.exists()


def test_an_export_writes_over_nothing_and_leaves_nothing_half(folder, here, tmp_path, capsys):
    storage = ["--storage", here.root]
    kept = tmp_path / "kept"
    kept.write_text("mine")
    assert "this file exists already" in refused(capsys, "export", "tiny", kept, *storage)
    assert kept.read_text() == "mine"
    assert "did you mean 'tiny'" in refused(capsys, "export", "tinny", tmp_path / "x", *storage)
    assert "cannot be written" in refused(capsys, "export", "tiny", tmp_path / "no/x", *storage)
    # A damaged artifact must not travel.
    copied = shutil.copytree(here.root, tmp_path / "copied")
    weights = next(copied.rglob("model.safetensors"))
    weights.write_bytes(b"?")
    line = last_line(capsys, "export", "tiny", tmp_path / "x", "--storage", copied)
    assert "'model.safetensors'" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied", "kept"]


def last_line(capsys, *arguments):
    """The last line of a command that also tells of something."""
    capsys.readouterr()
    assert exit_code(*arguments) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_store_in_use_or_too_small_is_refused_and_loses_nothing(
    archive, there, here, capsys, monkeypatch
):
    there.make()
    with folder_lock(there.root, "tiny"):
        line = refused(capsys, "import", archive, "--storage", there.root)
        assert "already runs" in line
    usage = namedtuple("usage", "free")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage(1000))
        line = refused(capsys, "import", archive, "--storage", there.root)
        assert "make room" in line
    assert runs_at(there) == []
    import_study(vetted(archive), there, quiet)
    assert told_by(there) == told_by(here)


def test_a_disk_that_fills_up_is_told_and_the_import_goes_on(
    archive, there, here, tmp_path, capsys
):
    there.make()
    make_database(there.database)
    LedgerWriter(there.tracking_uri, "tiny")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        line = refused(capsys, "import", archive, "--storage", tmp_path / "small")
        assert "the database cannot be created" in line
        line = refused(capsys, "import", archive, "--storage", there.root)
        assert "could not be written" in line
        assert "it continues where it stopped" in line
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    import_study(vetted(archive), there, quiet)
    assert told_by(there) == told_by(here)


def test_a_store_that_is_read_only_is_told(archive, there, capsys):
    assert "cannot be written" in refused(capsys, "import", archive, "--storage", "/proc/results")
    there.make()
    make_database(there.database)
    # Permissions are nothing to root, who may run this: the database itself says no.
    with closing(sqlite3.connect(there.database)) as database:
        no = "SELECT RAISE(ABORT, 'attempt to write a readonly database')"
        database.execute(f"CREATE TRIGGER no BEFORE INSERT ON runs BEGIN {no}; END")
    line = refused(capsys, "import", archive, "--storage", there.root)
    assert "could not be written" in line
    assert runs_at(there) == []


@pytest.mark.long
def test_on_a_server_it_gives_the_same_tables_and_grows(folder, archive, here, tmp_path):
    with served(tmp_path) as address:
        there = storage_at(str(tmp_path / "there"), address)
        done = import_study(vetted(archive), there, quiet)
        assert done.new == RUNS
        assert import_study(vetted(archive), there, quiet).there == RUNS
        assert told_by(there) == told_by(here)
        assert tables(there, tmp_path / "b") == tables(here, tmp_path / "a")
        assert set(sweep(folder / "tiny.yaml", there, *GROWN)) == NEW
        # And back: what was grown there is added here.
        back = tmp_path / "back.tar.zst"
        export_study(Ledger(address), "tiny", back, all_artifacts, quiet)
        home = storage_at(str(shutil.copytree(here.root, tmp_path / "home")), None)
        returned = import_study(vetted(back), home, quiet)
        assert (returned.new, returned.there) == (len(NEW), RUNS)
        assert sweep(folder / "tiny.yaml", home, *GROWN) == []
