"""The display of a running sweep: a live table, or plain lines if that is not possible."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rfray.engine.frontier import State
from rfray.engine.view import Ending, Running, View, Watcher
from rfray.plan import Plan
from rfray.stages.registry import stages
from rfray.terminal.notebook import html

_LAST_RESULTS = 6
_LAST_FAILURES = 3
_RUNNING_SHOWN = 8
_LINE_SECONDS = 30.0
_NOTEBOOK_SECONDS = 0.5
_COLUMNS = (State.DONE, State.RUNNING, State.WAITING, State.FAILED, State.SKIPPED)
_STYLES = {
    State.DONE: "green",
    State.RUNNING: "cyan",
    State.WAITING: "",
    State.FAILED: "bold red",
    State.SKIPPED: "yellow",
}


@contextmanager
def watching(plan: Plan, console: Console) -> Iterator[Watcher]:
    """A watcher for the kind of output: notebook, terminal, or plain text."""
    if console.is_jupyter:
        screen = _notebook()
    elif console.is_terminal and not console.is_dumb_terminal:
        screen = _terminal(console)
    else:  # a script with `ray exec` has a dumb terminal
        yield _plain(console)
        return
    results: deque[Ending] = deque(maxlen=_LAST_RESULTS)
    failures: deque[Ending] = deque(maxlen=_LAST_FAILURES)

    def ended(ending: Ending) -> None:
        (failures if _failed(ending) else results).append(ending)

    with screen as show:
        yield Watcher(
            ended=ended,
            looked=lambda view: show(live_screen(plan.study.name, view, [*failures, *results])),
            noted=lambda words: say(console, f"note: {words}"),
        )


Show = Callable[[RenderableType], None]
"""Replaces what was shown before."""


@contextmanager
def _terminal(console: Console) -> Iterator[Show]:
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        yield live.update


@contextmanager
def _notebook() -> Iterator[Show]:
    """One output of the notebook's cell, which changes. That of rich would need ipywidgets."""
    from IPython.display import HTML, DisplayHandle

    handle = DisplayHandle()
    handle.display(HTML(""))
    latest: RenderableType = ""
    shown = time.monotonic()

    def show(screen: RenderableType) -> None:
        nonlocal latest, shown
        latest = screen
        if time.monotonic() - shown >= _NOTEBOOK_SECONDS:
            shown = time.monotonic()
            handle.update(HTML(html(screen)))

    try:
        yield show
    finally:
        handle.update(HTML(html(latest)))


def live_screen(study: str, view: View, endings: Sequence[Ending]) -> Group:
    """The live display: time, states by stage, running nodes with progress, last results."""
    running = [
        Text(running_words(one), style="cyan", overflow="ellipsis", no_wrap=True)
        for one in view.running[:_RUNNING_SHOWN]
    ]
    if len(view.running) > _RUNNING_SHOWN:
        running.append(Text(f"and {len(view.running) - _RUNNING_SHOWN} more", style="cyan"))
    return Group(
        Text(f"{study}: {progress_words(view)}", style="bold"),
        stage_table(view),
        *running,
        *(_result(ending) for ending in endings),
    )


def stage_table(view: View) -> Table:
    """The number of nodes in each state, by stage."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for state in _COLUMNS:
        table.add_column(state.value, justify="right")
    for stage, counts in view.frontier.counts().items():
        cells = [
            Text(str(counts[state]) if counts[state] else "·", style=_STYLES[state])
            for state in _COLUMNS
        ]
        table.add_row(stage, *cells)
    return table


def progress_words(view: View) -> str:
    """Runs done, slots in use, time spent and time expected."""
    counts = view.frontier.counts().values()
    done, total = sum(c[State.DONE] for c in counts), sum(c.total() for c in counts)
    words = f"{done} of {total} runs done, {_slots_in_use(view)} in use, "
    words += f"{_duration(view.seconds)} spent"
    if view.seconds_left:
        words += f", about {_duration(view.seconds_left)} left at the pace so far"
    return "; ".join(filter(None, [words, view.waiting, view.outage]))


def _slots_in_use(view: View) -> str:
    total, free = view.frontier.places.total, view.frontier.places.free
    cores = f"{total.cpus - free.cpus:g} of {total.cpus:g} cores"
    return f"{total.gpus - free.gpus:g} of {total.gpus:g} GPUs, {cores}" if total.gpus else cores


def running_words(running: Running) -> str:
    """A running node: for how long, and the last value of its main metric or what it is doing."""
    words = f"{running.node.name}: running for {_duration(running.seconds)}"
    if running.told.doing:
        return f"{words}, {running.told.doing}"
    measured = running.told.measurements
    if not measured:
        return words
    headline = stages()[running.node.stage].headline
    shown = next((m for m in measured if m.metric == headline), measured[-1])
    return f"{words}, {shown.metric} {shown.value:.4g} at step {shown.step}"


def result_words(ending: Ending) -> str:
    """One ended run in one line."""
    if ending.outcome.unreadable:
        return _unreadable_words(ending)
    if ending.outcome.no_card:
        return _without_card_words(ending)
    if _failed(ending):
        skipped = f"; {ending.skipped} runs that read it are skipped" if ending.skipped else ""
        return f"{ending.node.name} failed: {ending.outcome.reason}{skipped}"
    headline = stages()[ending.node.stage].headline
    value = ending.outcome.last_metrics.get(headline)
    shown = f"{headline} {value:.4g}" if value is not None else "done"
    words = f"{ending.node.name}: {shown} in {ending.outcome.seconds:.1f} s"
    return "; ".join([words, *ending.outcome.remarks])


def _unreadable_words(ending: Ending) -> str:
    """Shown once for all runs of the data set."""
    outcome = ending.outcome
    where = f" on {outcome.host}" if outcome.host else ""
    others = f"; {ending.skipped} other runs on it are skipped" if ending.skipped else ""
    return f"the data set {outcome.unreadable} cannot be read{where}: {outcome.reason}{others}"


def _without_card_words(ending: Ending) -> str:
    """Shown once for all runs on GPUs."""
    others = f"; {ending.skipped} other runs on GPUs are skipped" if ending.skipped else ""
    return f"no GPU is found on {ending.outcome.host}: {ending.outcome.reason}{others}"


def _result(ending: Ending) -> Text:
    style = "bold red" if _failed(ending) else "dim"
    return Text(result_words(ending), style=style, overflow="ellipsis", no_wrap=True)


def _failed(ending: Ending) -> bool:
    return ending.outcome.status == "failed"


def _plain(console: Console) -> Watcher:
    """A line for each ended run, and a summary every 30 s and when an outage or a wait begins."""
    last, away, waited = time.monotonic(), False, False

    def looked(view: View) -> None:
        nonlocal last, away, waited
        begun, away = view.outage and not away, bool(view.outage)
        turned, waited = waited != bool(view.waiting), bool(view.waiting)
        if begun or turned or time.monotonic() - last > _LINE_SECONDS:
            last = time.monotonic()
            _line(console, progress_words(view))
            for one in view.running[:_RUNNING_SHOWN]:
                _line(console, f"  {running_words(one)}")

    return Watcher(
        ended=lambda ending: _line(console, result_words(ending)),
        looked=looked,
        noted=lambda words: _line(console, f"note: {words}"),
    )


def say(console: Console, words: str) -> None:
    """Print a sentence unchanged: no wrapping, no colours, no markup. A notebook wraps it."""
    if console.is_jupyter:
        from IPython.display import display

        display({"text/html": html(words), "text/plain": words}, raw=True)
        return
    console.print(words, soft_wrap=True, highlight=False, markup=False)
    sys.stdout.flush()


def _line(console: Console, words: str) -> None:
    say(console, f"{time.strftime('%H:%M:%S')} {words}")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
