"""Prepared once a node, mapped by all, and never half."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import fashion, pixels, refused, write_tree
from safetensors.torch import load_file, save_file

from rfray.data import registry
from rfray.data.cache import prepared, prepared_path
from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split

PROCESS = """
import os, re, sys, time
from pathlib import Path
import torch
from rfray.data.cache import prepared, prepared_path
from rfray.data.dataset import Dataset, DatasetFacts, DatasetSource, Split

IMAGES = 32_768  # 100 MB
facts = DatasetFacts("big", "big-v1", 2, 32, IMAGES, 2, (0.5,) * 3, (0.2,) * 3)

def load():
    with open(sys.argv[1], "a") as log:
        log.write(f"{os.getpid()}\\n")
    time.sleep(1)
    def split(count):
        images = torch.full((count, 3, 32, 32), 7, dtype=torch.uint8)
        return Split(images, torch.zeros(count, dtype=torch.int64))
    return Dataset(facts, split(IMAGES), split(2))

def resident_kilobytes(path):
    found, wanted = {"Rss": 0, "Pss": 0}, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            wanted = line.endswith(str(path))
        elif wanted and line.partition(":")[0] in found:
            found[line.partition(":")[0]] += int(line.split()[1])
    return found["Rss"], found["Pss"]

print("ready", flush=True)
sys.stdin.readline()
source = DatasetSource(facts, load)
dataset = prepared(source)
assert (int(dataset.train.images.min()), int(dataset.train.images.max())) == (7, 7)
print("read", flush=True)
sys.stdin.readline()
print(*resident_kilobytes(prepared_path(source)), flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs Linux's smaps")
def test_two_processes_prepare_once_and_share_the_pages(data_root, tmp_path):
    log = tmp_path / "loads.txt"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]

    def together() -> list[str]:
        """Let both go on, then wait for a line of each."""
        for process in both:
            process.stdin.write("\n")
            process.stdin.flush()
        return [process.stdout.readline().strip() for process in both]

    assert [process.stdout.readline().strip() for process in both] == ["ready", "ready"]
    assert together() == ["read", "read"]
    memory = [tuple(map(int, line.split())) for line in together()]
    for process in both:
        process.communicate("\n", timeout=30)
    assert len(log.read_text().split()) == 1
    for whole, own_share in memory:
        assert whole > 95_000  # kB: the process has touched it all
        assert own_share < 0.55 * whole  # half of each page is the other's
    assert sorted(path.suffix for path in (data_root / "prepared").iterdir()) == [
        ".lock",
        ".safetensors",
    ]


@pytest.fixture
def source(data_root):
    source, packed, _ = fashion()
    write_tree(data_root, packed)
    return source


def same(first, second):
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in ((first.train, second.train), (first.test, second.test))
    )


def unreadable(source):
    return replace(source, load=lambda: pytest.fail("the source was read again"))


def test_the_source_is_read_once(source):
    first = prepared(source)
    assert same(prepared(unreadable(source)), first)
    assert same(first, source.load())


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_truncated_prepared_file_is_made_anew(source, keep):
    whole = source.load()
    prepared(source)
    path = prepared_path(source)
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    assert same(prepared(source), whole)
    assert path.read_bytes() == content


def test_a_prepared_file_of_other_facts_is_made_anew(source):
    prepared(source)
    fewer = replace(source.facts, train_images=3)
    small = DatasetSource(fewer, lambda: replace(short(source.load(), 3), facts=fewer))
    assert len(prepared(small).train) == 3


def short(dataset: Dataset, count: int) -> Dataset:
    train = Split(dataset.train.images[:count], dataset.train.labels[:count])
    return Dataset(dataset.facts, train, dataset.test)


def test_a_source_that_is_not_what_its_facts_say_is_never_kept(source):
    wrong = DatasetSource(source.facts, lambda: short(source.load(), 7))
    with refused(r"FashionMNIST: its training images have the shape \(7, .*expected \(12, "):
        prepared(wrong)
    assert not prepared_path(source).exists()
    facts: DatasetFacts = replace(source.facts, classes=4)
    with refused(r"a training label is not one of its 4 classes"):
        prepared(DatasetSource(facts, lambda: replace(source.load(), facts=facts)))


def test_the_copy_notes_test_pictures_that_are_training_pictures(data_root, monkeypatch):
    source = fashion()[0]
    train, test = pixels(12, 3, 28, 28), pixels(5, 3, 28, 28, seed=1)
    test[1], test[4] = train[3], train[3]
    labels = torch.zeros(12, dtype=torch.int64)
    dataset = Dataset(
        source.facts,
        Split(torch.from_numpy(train), labels),
        Split(torch.from_numpy(test), labels[:5].clone()),
    )
    monkeypatch.setitem(registry.DATASETS, "FashionMNIST", lambda _: source)
    assert registry.dataset_findings("FashionMNIST") == ()  # nobody has read it yet
    prepared(replace(source, load=lambda: dataset))
    told = ("2 of 5 test pictures are training pictures too",)
    assert registry.dataset_findings("FashionMNIST") == told
    path = prepared_path(source)
    path.write_bytes(path.read_bytes()[:20])
    assert registry.dataset_findings("FashionMNIST") == ()


def test_a_copy_that_an_older_rfray_prepared_serves_and_notes_nothing(source, monkeypatch):
    first = prepared(source)
    path = prepared_path(source)
    save_file(load_file(path), path)  # without a note
    assert same(prepared(unreadable(source)), first)
    monkeypatch.setitem(registry.DATASETS, "FashionMNIST", lambda _: source)
    assert registry.dataset_findings("FashionMNIST") == ()


def test_no_digit_is_in_both_splits(data_root):
    prepared(registry.dataset_source("digits"))
    assert registry.dataset_findings("digits") == ()


def test_a_half_written_copy_is_never_read(source):
    path = prepared_path(source)
    path.parent.mkdir(parents=True)
    path.with_suffix(".partial").write_bytes(b"half")
    assert same(prepared(source), source.load())
    assert not path.with_suffix(".partial").exists()
