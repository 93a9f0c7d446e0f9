"""How far the reading of a data set is."""

from __future__ import annotations

import io
import itertools

import pytest
from PIL import Image
from rich.console import Console

from rfray.data.image_folder import image_folder
from rfray.terminal import telling
from rfray.terminal.reading import reading_shown
from rfray.terminal.telling import counted, tell, told_to


@pytest.fixture
def heard():
    words = []
    with told_to(words.append):
        yield words


def seconds(step):
    ticks = itertools.count(step=step)
    return lambda: float(next(ticks))


def test_items_come_through_with_word_of_how_many_are_done(heard):
    assert list(counted("abcd", 4, "reading letters", "letters", clock=seconds(1.0))) == [*"abcd"]
    assert heard[0] == "reading letters: 0 of 4 letters"
    assert heard[-1].endswith(" of 4 letters")


def test_word_comes_no_more_often_than_each_second(heard):
    list(counted(range(1000), 1000, "counting", clock=seconds(0.01)))
    assert 8 <= len(heard) <= 12


def test_a_length_that_nobody_knows_is_not_told(heard):
    list(counted(range(2), None, "downloading x", "MiB", clock=seconds(1.0)))
    assert heard[0] == "downloading x: 0 MiB"


def test_nobody_need_listen():
    tell("into the void")


def test_reading_pictures_tells_how_far_it_is(tmp_path, heard, monkeypatch):
    for split, name in itertools.product(("train", "test"), ("cat", "dog")):
        folder = tmp_path / "pictures" / split / name
        folder.mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (40 * number, 7 + number, 9 + number)).save(
                folder / f"{number}.png"
            )
    monkeypatch.setattr(telling, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setenv("RFRAY_DATA", str(tmp_path / "data"))
    image_folder(tmp_path / "pictures")
    assert f"reading {tmp_path / 'pictures'}: 11 of 12 pictures" in heard


def test_a_file_gets_the_first_words_and_then_a_line_now_and_then():
    console = Console(file=io.StringIO(), width=40)
    with reading_shown(console):
        for number in range(5):
            tell(f"reading a data set with a rather long name: {number} of 5 pictures")
    assert console.file.getvalue() == (
        "reading a data set with a rather long name: 0 of 5 pictures\n"
    )


def test_a_terminal_gets_one_line_that_changes():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with reading_shown(console):
        tell("reading [digits]: 1 of 5 pictures")
        tell("reading [digits]: 5 of 5 pictures")
    assert "reading [digits]: 5 of 5 pictures" in console.file.getvalue()


def test_where_nothing_is_read_nothing_is_said():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with reading_shown(console):
        pass
    assert console.file.getvalue() == ""
