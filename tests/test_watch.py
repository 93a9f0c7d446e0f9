"""What a person sees while a sweep runs."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from rfray.driver.watch import live_screen, watching
from rfray.engine.frontier import Frontier
from rfray.engine.job import Measurement, Outcome, Progress
from rfray.engine.places import Occupancy
from rfray.engine.view import Ending, Running, View
from rfray.plan import make_plan
from rfray.study.sweep_file import load_study


@pytest.fixture
def plan(tiny_sweep):
    return make_plan(load_study(str(tiny_sweep)))


def by_label(plan, label):
    return next(node for node in plan.nodes.values() if node.name.endswith(label))


def told(metric, step, value):
    entry = Measurement(metric=metric, step=step, value=value, timestamp=0)
    return Progress(measurements=[entry])


@pytest.fixture
def view(plan):
    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=2, gpus=0)})
    list(frontier.start(lambda _: Occupancy(1, 0)))
    hessian = by_label(plan, "seed0/hessian-init")
    return View(
        frontier=frontier,
        seconds=60.0,
        seconds_left=180.0,
        running=(
            Running(hessian, 50.0, told("converged_eigenvalues", 120, 31.0)),
            Running(by_label(plan, "seed1/train"), 5.0),
        ),
    )


def ending(plan, label, **changes):
    outcome = Outcome(key="", status="finished", seconds=1.5)
    return Ending(by_label(plan, label), outcome.model_copy(update=changes), skipped=2)


def shown(renderable):
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()


def test_the_screen_says_what_runs_how_far_it_is_and_when_all_will_be_done(plan, view):
    screen = shown(live_screen("tiny", view, []))
    assert "tiny: 0 of 14 runs done, 2 of 2 cores in use, 0:01:00 spent, about 0:03:00" in screen
    assert "k5-seed0/hessian-init: running for 0:00:50, converged_eigenvalues 31 at step 120" in (
        screen
    )
    assert "k5-seed1/train: running for 0:00:05\n" in screen


def test_what_is_read_for_a_run_is_told_until_it_measures(plan, view):
    reading = Running(by_label(plan, "seed1/train"), 5.0, Progress(doing="reading digits: 3 of 9"))
    screen = shown(live_screen("tiny", replace(view, running=(reading,)), []))
    assert "k5-seed1/train: running for 0:00:05, reading digits: 3 of 9\n" in screen


def test_the_screen_tells_failures_with_their_reason(plan, view):
    failed = ending(plan, "seed0/train", status="failed", reason="RuntimeError: no luck")
    assert "seed0/train failed: RuntimeError: no luck; 2 runs that read it are skipped" in shown(
        live_screen("tiny", view, [failed])
    )


def test_gpus_are_counted_where_there_are_any(plan, view):
    frontier = Frontier(plan, done=(), machines={"one": Occupancy(cpus=8, gpus=2)})
    with_gpus = replace(view, frontier=frontier)
    assert "0 of 2 GPUs, 0 of 8 cores in use" in shown(live_screen("tiny", with_gpus, []))


def test_a_screen_of_many_says_how_many_more_there_are(view):
    many = replace(view, running=view.running * 6)
    assert "and 4 more" in shown(live_screen("tiny", many, []))


def test_failures_stay_on_the_screen_when_newer_results_push_the_others_off(plan, view):
    terminal = Console(file=io.StringIO(), width=120, force_terminal=True)
    with watching(plan, terminal) as watcher:
        watcher.ended(ending(plan, "seed0/train", status="failed", reason="no luck"))
        for _ in range(20):
            watcher.ended(ending(plan, "seed1/train"))
        watcher.looked(view)
    assert "seed0/train failed: no luck" in terminal.file.getvalue()


def test_without_a_terminal_each_ending_is_a_line_with_its_time(plan):
    console = Console(file=io.StringIO(), width=120)
    with watching(plan, console) as watcher:
        watcher.ended(ending(plan, "seed1/train", remarks=["A remark."]))
    (line,) = console.file.getvalue().splitlines()
    assert line[2] == line[5] == ":"
    assert line.endswith("vgg19_rf-digits-k5-seed1/train: done in 1.5 s; A remark.")


def test_a_wait_for_a_machine_is_said_at_once_and_so_is_its_end(plan, view):
    console = Console(file=io.StringIO(), width=200)
    wait = "waiting for a machine with 1 CPUs and 1 GPUs (train) since 14:02:12 (0:05 min)"
    with watching(plan, console) as watcher:
        watcher.looked(view)
        watcher.looked(replace(view, waiting=wait))
        watcher.looked(replace(view, waiting=wait))
        watcher.looked(view)
        watcher.noted("asks the cluster for 12 GPUs in all")
    lines = [line for line in console.file.getvalue().splitlines() if "runs done" in line]
    assert [wait in line for line in lines] == [True, False]
    assert "note: asks the cluster for 12 GPUs in all" in console.file.getvalue()
