"""The command line. Slow imports are inside the commands that need them."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rfray import __version__, api
from rfray.errors import UserError
from rfray.storage import Storage, storage_at
from rfray.terminal.interruption import INTERRUPTED, Interruption, leave

if TYPE_CHECKING:
    from rfray.commands.forecast import SlotKind
    from rfray.plan import Plan

DONE, SOME_FAILED, USAGE_ERROR = 0, 1, 2

_GARBAGE_THRESHOLDS = (50_000, 20, 10)
"""Imported modules and runs stay in memory. Python's usual thresholds would search them for garbage
so often that this takes a quarter of the start of a study with 5,000 runs."""

_study_arguments = click.argument("arguments", nargs=-1, metavar="[SWEEP] [KEY=VALUE]...")


def _in_storage(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say where results are. The command gets the storage as `place`."""

    @click.option("--storage", metavar="DIR", help="Folder for results; default ./rfray-results.")
    @click.option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow tracking store; default MLFLOW_TRACKING_URI, else sqlite in the folder.",
    )
    @wraps(command)
    def placed(*, storage: str | None, tracking_uri: str | None, **others: Any) -> None:
        command(place=storage_at(storage, tracking_uri), **others)

    return placed


_address_option = click.option(
    "--address",
    metavar="ADDRESS",
    help="Join a running Ray cluster, `auto` for this machine's; default: start Ray here.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rfray")
def rfray() -> None:
    """Sweeps over a network's receptive field, on Ray, tracked in MLflow.

    SWEEP is a sweep file or the name of a shipped one; without it RFRAY_SWEEP, else quickstart.
    KEY=VALUE changes a value in it, as in axes.seed=[0,1] train.epochs=5 hessian=false.
    """


@rfray.command()
@_study_arguments
@_in_storage
@click.option(
    "--slots", type=click.IntRange(min=1), metavar="N", help="Simulate the missing runs on N slots."
)
@click.option(
    "--slot",
    "kind",
    type=click.Choice(["gpu", "cpu"]),
    default="gpu",
    show_default=True,
    help="What a slot is: a GPU, or a CPU core.",
)
@click.option(
    "--price",
    type=click.FloatRange(min=0),
    metavar="P",
    help="Price of a slot for an hour, to estimate the cost; with --slots.",
)
@_json_option
def plan(
    arguments: tuple[str, ...],
    place: Storage,
    slots: int | None,
    kind: SlotKind,
    price: float | None,
    as_json: bool,
) -> None:
    """Show what would run, and what is wrong with it. Starts nothing.

    With --slots it simulates the study in the order in which the driver would run it. The time of
    a run is that of finished runs of its kind on such a slot; without any, it is estimated from
    the number of operations.

    \b
    rfray plan
    rfray plan quickstart axes.seed=[0,1,2]
    rfray plan paper --slots 64 --price 2.5
    """
    from rfray.commands.forecast import expected_schedule
    from rfray.commands.plan_report import schedule_json, schedule_text

    if price is not None and slots is None:
        raise UserError("a price needs slots to pay for", where="--price", do="add --slots N")
    planned = api.plan(_study(arguments), place.root, tracking_uri=place.tracking_uri)
    data, text = planned.as_json(), planned.as_text()
    if not slots:
        _show(as_json, data, text)
        return
    reusable = {key: source.run for key, source in planned.reusable.items()}
    done = {**planned.standing.finished, **reusable}
    schedule, basis = expected_schedule(planned.plan, done, slots, kind)
    data["schedule"] = schedule_json(schedule, basis, price)
    _show(as_json, data, text, schedule_text(schedule, f"{kind.upper()}s", basis, price))


@rfray.command()
@_study_arguments
@_in_storage
@_address_option
@click.option("--verbose", "-v", is_flag=True, help="Also show what Ray and MLflow print.")
@click.option(
    "--in-process",
    is_flag=True,
    help="Without Ray: one run after the other in this process on a CPU, for a debugger.",
)
def sweep(
    arguments: tuple[str, ...], place: Storage, address: str | None, verbose: bool, in_process: bool
) -> None:
    """Run the missing runs of a study; run it again to resume or to extend it.

    Exit codes: 0 all done; 1 some stage failed, all others ran; 2 an error in the command or the
    study, nothing ran; 130 interrupted, finished runs are kept.

    \b
    rfray sweep
    rfray sweep quickstart axes.seed=[0,1,2]
    rfray sweep my-sweep.yaml --address auto --tracking-uri http://127.0.0.1:5000
    """
    from rfray.commands.pasteable import build_tables, compare_runs
    from rfray.driver import executors
    from rfray.terminal import chatter

    if in_process and address is not None:
        raise UserError("it joins no cluster", where="--in-process", do="leave --address out")
    if verbose:
        chatter.ask_for_it()
    # Until something runs. A cluster's job manager stops its jobs with SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    study = _study(arguments)
    workers = executors.in_process() if in_process else executors.on_ray(address)
    try:
        result = api.sweep_on(workers, study, place, Interruption(leave))
    except KeyboardInterrupt:
        click.echo("\ninterrupted: finished runs are kept. To resume:")
        again = [*arguments, "--in-process"] if in_process else arguments
        click.echo(f"  {_sweep_again(again)}")
        raise click.exceptions.Exit(INTERRUPTED) from None
    click.echo(f"compare the runs:  {compare_runs(place)}")
    click.echo(f"build the tables:  {build_tables(place, study.name)}")
    if not result.complete:
        raise click.exceptions.Exit(SOME_FAILED)


@rfray.command()
@_study_arguments
@_in_storage
@_json_option
def status(arguments: tuple[str, ...], place: Storage, as_json: bool) -> None:
    """Count done, running, failed and missing runs of a study, per stage; also while it runs.

    If other settings vary, such as train.learning_rate, each combination of them has a line.

    It reads only the tracking store, so it works on any machine that reaches the store. Runs are
    opened a little early: a few that count as running still wait for a slot.

    \b
    rfray status
    rfray status paper --tracking-uri http://127.0.0.1:5000 --json
    """
    from rfray.commands.status import choice_counts, left_over_text, status_json, status_text
    from rfray.engine.standing import left_over

    planned = _plan(arguments)
    runs = api.runs_there(planned, place)
    counts = choice_counts(planned, runs)
    left = [run.name for run in left_over(planned, runs)]
    data = {**status_json(planned, counts), "left_over": left}
    _show(as_json, data, status_text(planned, counts), *left_over_text(left))


@rfray.command()
@_study_arguments
@_in_storage
@click.option(
    "--left-over", is_flag=True, help="Also weights of runs that this sweep no longer names."
)
@click.option("--yes", "-y", is_flag=True, help="Delete them without asking.")
@_json_option
def clean(
    arguments: tuple[str, ...], place: Storage, left_over: bool, yes: bool, as_json: bool
) -> None:
    """List files that nothing needs any more, with their sizes; ask, and delete them.

    These are weights that no run still has to read, except those of the stages in the sweep's
    `keep`, and checkpoints of finished trainings. Numbers, tables and images stay. If a larger
    study needs deleted weights, its next start says so and computes them again.

    \b
    rfray clean
    rfray clean paper keep=[] --yes
    """
    from rfray.commands.clean_run import cleaning, cleaning_text, disposable, drop
    from rfray.commands.cleaning import cleaning_json

    planned = _plan(arguments)
    api.open_ledger(place)
    with cleaning(planned, place) as held:
        found = disposable(held, left_over_too=left_over)
    listed = cleaning_text(found) if found else "nothing can be deleted"
    _show(as_json, cleaning_json(planned.study.name, found), listed)
    if not found or not (yes or (not as_json and click.confirm("delete these files?"))):
        return
    # Not held while the user decides: a sweep may have run since then, so the list is made again.
    with cleaning(planned, place) as held:
        still = disposable(held, left_over_too=left_over)
        drop(held, [one for one in still if one in found])


@rfray.command()
@click.argument("run")
@click.argument("out")
@click.option("--study", metavar="NAME", help="Study; default: the one that ran last.")
@click.option(
    "--at",
    type=click.Choice(["init", "trained"]),
    default="trained",
    show_default=True,
    help="Weights of a training run: before training or after it.",
)
@_in_storage
def weights(
    run: str, out: str, study: str | None, at: Literal["init", "trained"], place: Storage
) -> None:
    """Write the weights of a run, by its name or its identifier, to a safetensors file.

    A pruned or fine-tuned network is stored as differences from the trained one; this command
    writes it complete, with the same bits that later stages read.

    \b
    rfray weights vgg19_rf-digits-k3-seed0/prune-0.9 pruned.safetensors
    rfray weights vgg19_rf-digits-k3-seed0/train initial.safetensors --at init
    """
    from rfray.commands.weights_file import write_weights

    ledger = api.open_ledger(place)
    write_weights(ledger, study or ledger.latest_study(), run, at, Path(out))


@rfray.command()
@_study_arguments
@_in_storage
@_address_option
@_json_option
def doctor(arguments: tuple[str, ...], place: Storage, address: str | None, as_json: bool) -> None:
    """Check what a sweep needs on this machine, and say what to do; changes nothing.

    Python, packages, GPUs, memory, disk, the study's data sets, the tracking store, Ray. Exit code
    1 if something is wrong.

    \b
    rfray doctor
    rfray doctor paper --address auto --tracking-uri http://127.0.0.1:5000
    """
    from dataclasses import asdict

    from rfray.commands import doctor as doctors

    api.wait_seconds_not_minutes()
    findings = list(doctors.examine(_plan(arguments), place, address))
    _show(as_json, [asdict(finding) for finding in findings], doctors.report(findings))
    if not all(finding.well for finding in findings):
        raise click.exceptions.Exit(SOME_FAILED)


@rfray.command()
def schema() -> None:
    """Print the JSON schema of sweep files, with which editors complete and check them.

    \b
    rfray schema > sweep.schema.json
    """
    from rfray.commands.sweep_schema import sweep_schema

    click.echo(json.dumps(sweep_schema(), indent=1))


@rfray.command()
def reference() -> None:
    """Print every key of a sweep file, its type, default and meaning, as Markdown."""
    from rfray.commands.sweep_schema import reference_page

    click.echo(reference_page(__version__), nl=False)


@rfray.command()
@click.argument("report", required=False)
@click.option(
    "--study",
    "studies",
    multiple=True,
    metavar="NAME",
    help="Study; default: the one that ran last. Several are compared with the first.",
)
@click.option("--out", metavar="DIR", help="Where to write; default STORAGE/analysis/STUDY.")
@_in_storage
@_json_option
def analyze(
    report: str | None, studies: tuple[str, ...], out: str | None, place: Storage, as_json: bool
) -> None:
    """Build the tables, figures and report of a study from MLflow, finished or not.

    REPORT is a file that describes them; default: the shipped paper.yaml.

    \b
    rfray analyze --out out
    rfray analyze my-report.yaml --study quickstart --json
    rfray analyze --study paper --study author
    """
    from rfray.analysis import analyze as build
    from rfray.analysis import compare, load_report
    from rfray.analysis.report import analysis_json, analysis_lines
    from rfray.study.sweep_file import shipped_folder
    from rfray.tracking import store_answers

    layout = load_report(Path(report) if report else shipped_folder("analysis") / "paper.yaml")
    ledger = api.open_ledger(place)
    names = studies or (ledger.latest_study(),)
    folder = Path(out) if out else place.root / "analysis" / "+".join(names)
    with store_answers(place.tracking_uri):
        analysis = (
            build(ledger, names[0], layout, folder)
            if len(names) == 1
            else compare(ledger, names, layout, folder)
        )
    if as_json:
        click.echo(json.dumps(analysis_json(analysis), indent=1))
        return
    for line in analysis_lines(analysis):
        click.echo(line)


@rfray.command("export")
@click.argument("study")
@click.argument("archive", metavar="ARCHIVE", type=click.Path(path_type=Path))
@click.option("--without-weights", is_flag=True, help="Leave the networks' weights out.")
@_in_storage
def export_(study: str, archive: Path, without_weights: bool, place: Storage) -> None:
    """Write a study into one file: its runs, metrics, artifacts, and its plan.

    `rfray import` reads it; without rfray, unpack it and read its README and csv files.

    \b
    rfray export quickstart quickstart.tar.zst
    rfray export paper paper.tar.zst --without-weights --tracking-uri http://127.0.0.1:5000
    """
    from rfray.sharing import export_study
    from rfray.sharing.packing import all_artifacts
    from rfray.sharing.packing import without_weights as small
    from rfray.tracking import store_answers

    ledger = api.open_ledger(place)
    with store_answers(place.tracking_uri), _counted("runs written") as told:
        keep = small if without_weights else all_artifacts
        made = export_study(ledger, study, archive, keep, told)
    click.echo(f"{archive}: {made.runs} runs of {study}, {made.size / 1e6:,.1f} MB")
    if made.running:
        click.echo(f"note: {made.running} runs have not ended and are not in it", err=True)
    if made.withheld:
        click.echo(f"note: {made.withheld} files of runs are not in it", err=True)


@rfray.command("import")
@click.argument("archive", metavar="ARCHIVE", type=click.Path(path_type=Path))
@_in_storage
def import_(archive: Path, place: Storage) -> None:
    """Read the file of `rfray export` into a folder or a tracking server.

    Runs that are there already do not change. So you may give the command again, to continue after
    an interruption, or with a later export of the same study.

    \b
    rfray import quickstart.tar.zst
    rfray import paper.tar.zst --tracking-uri http://127.0.0.1:5000
    """
    from rfray.commands.pasteable import build_tables
    from rfray.sharing import import_study, vetted

    api.wait_seconds_not_minutes()
    checked = vetted(archive)
    study = checked.form.study
    with _counted("runs written") as told:
        done = import_study(checked, place, told)
    click.echo(
        f"{study}: {done.new} runs imported, {done.completed} completed, {done.there} were there"
    )
    if done.other_plan:
        click.echo(
            f"note: {study} was planned otherwise here; that plan stays until the next sweep",
            err=True,
        )
    click.echo(f"build the tables:  {build_tables(place, study)}")


@rfray.command("redo")
@click.argument("study", metavar="SWEEP")
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@_in_storage
def redo_(study: str, run: str, overrides: tuple[str, ...], place: Storage) -> None:
    """Let the next sweep compute one run again, and all runs that read it.

    The old runs stay in MLflow as superseded: tables leave them out. Give the same changes as to
    the sweep, because the plan says which runs read which.

    \b
    rfray redo quickstart vgg19_rf-digits-k3-seed1/train
    rfray redo quickstart vgg19_rf-digits-k3-seed2/train axes.seed=[0,1,2]
    """
    from rfray.commands.redo import following, redo

    arguments = [study, *overrides]
    planned = _plan(arguments)
    following(planned, run)
    api.open_ledger(place).experiment_id(planned.study.name)
    done = redo(planned, place, run)
    for name in done.names:
        click.echo(f"superseded: {name}")
    if done.beside:
        click.echo(f"note: {done.beside} finished runs are not in this plan and stay", err=True)
    click.echo(f"to compute them:  {_sweep_again(arguments)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code. A mistake of the user is printed in one line."""
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    try:
        code = rfray.main(args=arguments, prog_name="rfray", standalone_mode=False)
    except UserError as error:
        _leave_with(str(error))
    except click.ClickException as error:
        _leave_with(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The program that reads the output, such as `head`, has ended.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    sys.exit(code if isinstance(code, int) else DONE)


def _leave_with(message: str) -> None:
    click.echo(f"rfray: {' '.join(message.split())}", err=True)
    sys.exit(USAGE_ERROR)


@contextmanager
def _counted(what: str) -> Iterator[Callable[[str], None]]:
    """Show a count in one line of the terminal; nothing if standard error is not a terminal."""
    count = 0

    def told(_name: str) -> None:
        nonlocal count
        count += 1
        if sys.stderr.isatty():
            click.echo(f"\r{count} {what}", nl=False, err=True)

    try:
        yield told
    finally:
        if count and sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)


def _study(arguments: Sequence[str]) -> api.Study:
    overrides = [argument for argument in arguments if "=" in argument]
    names = [argument for argument in arguments if "=" not in argument]
    if len(names) > 1:
        raise UserError(f"two sweeps are named, '{names[0]}' and '{names[1]}'", do="name one")
    return api.Study.load(names[0] if names else None, *overrides)


def _plan(arguments: Sequence[str]) -> Plan:
    return api.expand(_study(arguments))


def _sweep_again(arguments: Sequence[str]) -> str:
    """The command that continues a sweep, with the options of this command."""
    from rfray.commands.pasteable import sweep_again

    given = click.get_current_context().params
    options = {"--storage": "storage", "--tracking-uri": "tracking_uri", "--address": "address"}
    return sweep_again(arguments, {flag: given.get(name) for flag, name in options.items()})


def _show(as_json: bool, data: Any, *texts: Any) -> None:
    if as_json:
        click.echo(json.dumps(data, indent=1))
        return
    from rfray.terminal.consoles import usual_console

    console = usual_console()
    for text in texts:
        console.print(text)


if __name__ == "__main__":
    main()
