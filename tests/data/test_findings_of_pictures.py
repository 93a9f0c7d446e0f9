"""What `rfray plan` says of pictures that were changed, left out, or found in both splits."""

from __future__ import annotations

import json
import os

import pytest
from command_line import rfray as in_folder
from command_line import rfray_anew
from layouts import pixels, png, refused, write_tree
from mlflow.tracking import MlflowClient
from picture_files import RAMP, oriented, other_profile, saved, see_through, several_frames, tiff
from PIL import Image

from rfray.data.background import use_background
from rfray.data.folders import use_data_root
from rfray.engine.assemble import assemble
from rfray.engine.places import Occupancy
from rfray.engine.shares import Grant
from rfray.engine.worker import run_job
from rfray.plan import make_plan
from rfray.storage import storage_at
from rfray.study.sweep_file import load_study
from rfray.tracking import RunRecord

SWEEP = """\
name: pictures
axes: {dataset: [imagefolder], arch: [vgg19_rf], kernel_size: [2], seed: [0], width: [0.0625]}
data: {image_size: 32}
train: {epochs: 1, batch_size: 4}
"""


def one_of_each():
    """Two classes; each kind of file that is read in a way of its own, and each that is not."""
    files = {
        f"{split}/{name}/{n}.png": png(pixels(20, 20, 3, seed=10 * n + len(split + name)))
        for split in ("train", "test")
        for name, n in (("ant", 1), ("bees", 2))
    }
    colours = pixels(20, 20, 3, seed=4)
    cmyk = Image.fromarray(pixels(20, 20, 4), "CMYK")
    return {
        **files,
        "train/ant/16 bits.png": saved(RAMP, "PNG"),
        "train/bees/16 bits, little-endian.tif": tiff(RAMP),
        "test/bees/16 bits, big-endian.TIFF": tiff(RAMP[::-1], order=">"),
        "train/ant/photograph.jpg": oriented(pixels(20, 30, 3), 6, "JPEG"),
        "train/ant/scan.tif": oriented(pixels(20, 30, 3, seed=3), 8, "TIFF"),
        "train/ant/animation.png": several_frames("PNG"),
        "train/bees/pages.tif": several_frames("TIFF", size=24),
        "train/bees/print.tif": saved(cmyk, "TIFF"),
        "train/bees/profile.png": saved(colours, "PNG", icc_profile=other_profile()),
        "train/bees/below/1.png": png(pixels(20, 20, 3, seed=5)),
        "test/ant/known.bmp": saved(pixels(20, 20, 3, seed=5), "BMP"),
        "train/bees/moving.gif": several_frames("GIF"),
        "train/bees/notes.txt": b"",
        "train/ant/.DS_Store": b"",
    }  # fmt: skip


TOLD = [
    "3 files are left out: 1 hidden, 1 GIF, 1 of unknown ending (.txt)",
    "3 pictures of more than 8 bits per channel are scaled to 8",
    "2 pictures are turned as their EXIF orientation says",
    "2 files have several frames, of which only the first is read",
    "1 picture in CMYK is converted without a colour profile",
    "1 picture has a colour profile that changes its colours in viewers; it is not applied",
    "1 of 4 test pictures is a training picture too",
]


def rfray(folder, *arguments):
    return in_folder(*arguments, cwd=folder, environment={"RFRAY_DATA": str(folder / "data")})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures.yaml").write_text(SWEEP)
    write_tree(tmp_path / "data/imagefolder", one_of_each())
    return tmp_path


def test_a_plan_tells_of_one_of_each(folder):
    for _ in ("read", "remembered"):
        answer = rfray(folder, "plan", "pictures.yaml")
        assert (answer.returncode, answer.stderr) == (0, "")
        notes = [
            line for line in answer.stdout.splitlines() if line.startswith("note: imagefolder")
        ]
        assert notes == [f"note: imagefolder@32: {told}" for told in TOLD]
    answer = rfray(folder, "plan", "pictures.yaml", "--json")
    assert json.loads(answer.stdout)["findings"] == [f"imagefolder@32: {told}" for told in TOLD]


def test_without_a_background_transparent_parts_are_refused_and_with_one_they_are_trained_on(
    folder,
):
    transparent = folder / "data/imagefolder/train/ant/logo.png"
    transparent.write_bytes(saved(see_through(), "PNG"))
    answer = rfray(folder, "plan", "pictures.yaml")
    assert answer.returncode == 2
    assert answer.stderr.startswith(
        f"rfray: {transparent}: it has transparent parts, and no background colour"
    )
    assert len(answer.stderr.splitlines()) == 1
    answer = rfray(folder, "sweep", "pictures.yaml", "data.background=Gray", "--in-process")
    assert answer.returncode == 0, answer.stderr
    assert "imagefolder@32: 1 picture with transparent parts is put on #808080" in answer.stdout
    client = MlflowClient(storage_at(str(folder / "rfray-results"), None).tracking_uri)
    experiment = client.get_experiment_by_name("pictures")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("colour", "why"),
    [
        ("whit", "'whit' is not a colour"),
        ("#ffffff80", "'#ffffff80' is itself transparent"),
        ("", "''"),
    ],
)
def test_a_colour_that_is_none_is_refused_before_a_picture_is_read(folder, colour, why):
    with refused(rf"command line: data\.background: {why} .*\(write "):
        load_study(str(folder / "pictures.yaml"), [f'data.background="{colour}"'])


@pytest.mark.parametrize(
    ("size", "says"),
    [(12_000, "12000×12000 pixels, expected 20×20"), (14_000, "more than 179 megapixels")],
)
def test_a_huge_picture_is_told_of_in_one_line(folder, size, says):
    huge = folder / "data/imagefolder/train/bees/huge.png"
    Image.new("1", (size, size)).save(huge)
    for name in one_of_each():
        if name.endswith(("tif", "TIFF", "jpg")) or "16 bits" in name:
            (folder / "data/imagefolder" / name).unlink()
    answer = rfray(folder, "plan", "pictures.yaml", "data.image_size=null")
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"rfray: {huge}: the picture ")
    assert says in line


def test_a_worker_lays_pictures_on_the_same_background_or_refuses(folder, monkeypatch):
    monkeypatch.setenv("RFRAY_DATA", "")
    (folder / "data/imagefolder/train/ant/logo.png").write_bytes(saved(see_through(), "PNG"))
    root = f"data.root={folder / 'data'}"
    study = load_study(str(folder / "pictures.yaml"), [root, "data.background=white"])
    use_data_root(study.data.root)
    use_background(study.data.background)
    plan = make_plan(study)
    (node,) = plan.nodes.values()
    artifacts = (folder / "artifacts").as_uri()
    run = RunRecord("1", node.name, "RUNNING", 0, None, artifacts, {}, {}, {})
    job = assemble(plan, node, run, [], Grant(Occupancy(1, 0)), folder / "checkpoints", "")
    assert job.background == "white"
    use_background(None)  # a worker knows only what its job says
    assert run_job(job, lambda _: None).status == "finished"
    other = job.model_copy(
        update={"background": "black", "artifact_uri": (folder / "other").as_uri(), "attempt": 2}
    )
    outcome = run_job(other, lambda _: None)
    assert outcome.status == "failed"
    assert "was planned (give every machine the same files)" in outcome.reason


def test_planning_again_reads_no_picture(folder):
    place = {"cwd": folder, "environment": {"RFRAY_DATA": str(folder / "data")}}
    assert rfray_anew("plan", "pictures.yaml", **place).returncode == 0
    picture = folder / "data/imagefolder/train/ant/1.png"
    state = picture.stat()
    picture.write_bytes(b"?" * state.st_size)
    os.utime(picture, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert rfray_anew("plan", "pictures.yaml", **place).returncode == 0
