"""The command line: plan, sweep, status, analyze."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from click import ClickException
from click.exceptions import Abort, Exit
from rich.console import Console

from rfray.errors import UserError
from rfray.storage import Storage, storage_at

if TYPE_CHECKING:
    from rfray.plan import Plan
    from rfray.tracking import Ledger

DONE, SOME_FAILED, USAGE_ERROR, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="rfray",
    help="Sweeps over a network's receptive field, on Ray, tracked in MLflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SWEEP] [KEY=VALUE]…",
        help="A sweep file or the name of a shipped one (default: RFRAY_SWEEP, else quickstart), "
        "and overrides such as axes.seed=[0,1] train.epochs=5",
        show_default=False,
    ),
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="DIR",
        help="Folder for results (default: ./rfray-results).",
        show_default=False,
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="MLflow tracking store (default: MLFLOW_TRACKING_URI, else sqlite in the folder).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def plan(
    arguments: Arguments = None,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """What would run, and what is wrong with it. Starts nothing."""
    from rfray.plan_report import plan_json, plan_text

    planned = _plan(arguments)
    done = _done(planned, storage_at(storage, tracking_uri))
    if as_json:
        print(json.dumps(plan_json(planned, done), indent=1))  # noqa: T201
        return
    Console().print(plan_text(planned, done))


@app.command()
def sweep(
    arguments: Arguments = None,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="ADDRESS",
            help="Join a running Ray cluster, `auto` for the one on this machine "
            "(default: start Ray here).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run what is missing of a study; run it again to resume or to extend it."""
    from rfray.engine.frontier import State
    from rfray.sweep_run import prepared, run_sweep
    from rfray.watch import watching

    planned = _plan(arguments)
    place = storage_at(storage, tracking_uri)
    console = Console()
    for finding in planned.findings:
        console.print(f"note: {finding}", highlight=False, markup=False)
    try:
        with prepared(planned, place) as ready:
            if ready.missing == 0:
                console.print(f"{planned.study.name}: all {len(planned.nodes)} runs are done")
                _print_next_steps(console, place, planned.study.name)
                return
            console.print(
                f"{planned.study.name}: {ready.missing} of {len(planned.nodes)} runs to do, "
                f"{len(planned.nodes) - ready.missing} done"
            )
            with watching(planned, console) as watcher:
                frontier = run_sweep(
                    ready, place, lambda: _ray_executor(planned, place, address), watcher
                )
    except KeyboardInterrupt:
        console.print("\ninterrupted: what was finished is kept. To resume:")
        console.print(
            f"  {_resume_command(arguments, storage, tracking_uri, address)}", markup=False
        )
        raise Exit(INTERRUPTED) from None
    states = list(frontier.states.values())
    failed, skipped = states.count(State.FAILED), states.count(State.SKIPPED)
    if failed:
        console.print(
            f"{planned.study.name}: {failed} runs failed, {skipped} that follow them were skipped, "
            f"{states.count(State.DONE)} are done; the reason stands in each run's tag rfray.error. "
            "Run the same command again to try them again."
        )
    else:
        console.print(f"{planned.study.name}: all {len(states)} runs are done")
    _print_next_steps(console, place, planned.study.name)
    if failed:
        raise Exit(SOME_FAILED)


@app.command()
def status(
    arguments: Arguments = None,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Done, running, failed and missing runs of a study, per stage; also while it runs."""
    from rfray.status import status_counts, status_json, status_text

    planned = _plan(arguments)
    place = storage_at(storage, tracking_uri)
    counts = status_counts(planned, _runs(planned, place))
    if as_json:
        print(json.dumps(status_json(planned, counts), indent=1))  # noqa: T201
        return
    Console().print(status_text(planned, counts))


@app.command()
def analyze(
    report: Annotated[
        str | None,
        typer.Argument(
            metavar="[REPORT]",
            help="A report file (default: the shipped paper.yaml).",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            "--study", metavar="NAME", help="Study (default: the one run last).", show_default=False
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder to write to (default: STORAGE/analysis/STUDY).",
            show_default=False,
        ),
    ] = None,
    storage: StorageOption = None,
    tracking_uri: TrackingOption = None,
) -> None:
    """Build the tables and figures of a study from MLflow alone."""
    from rfray.analysis import analyze as build
    from rfray.analysis import load_report
    from rfray.sweep_file import shipped_folder

    place = storage_at(storage, tracking_uri)
    layout = load_report(Path(report) if report else shipped_folder("analysis") / "paper.yaml")
    ledger = _ledger(place)
    name = study or ledger.latest_study()
    folder = Path(out) if out else place.root / "analysis" / name
    analysis = build(ledger, name, layout, folder)
    console = Console()
    console.print(f"{name}: wrote {len(analysis.written)} files to {folder}", highlight=False)
    for gap in analysis.gaps:
        console.print(f"missing: {gap}", highlight=False, markup=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except UserError as error:
        _complain(str(error))
        sys.exit(USAGE_ERROR)
    except ClickException as error:
        _complain(error.format_message())
        sys.exit(USAGE_ERROR)
    except (KeyboardInterrupt, Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(DONE)
    sys.exit(code if isinstance(code, int) else DONE)


def _complain(message: str) -> None:
    print(f"rfray: {message}", file=sys.stderr)  # noqa: T201


def _plan(arguments: Sequence[str] | None) -> Plan:
    from rfray.plan import make_plan
    from rfray.sweep_file import load_study

    given = arguments or []
    overrides = [argument for argument in given if "=" in argument]
    names = [argument for argument in given if "=" not in argument]
    if len(names) > 1:
        raise UserError(f"two sweeps are named, '{names[0]}' and '{names[1]}'", do="name one")
    return make_plan(load_study(names[0] if names else None, overrides))


def _ledger(place: Storage) -> Ledger:
    if place.embedded and not place.database.is_file():
        raise UserError(
            "there are no results here",
            where=str(place.root),
            do="run a sweep first, or name --storage",
        )
    from rfray.tracking import Ledger, initialise_store

    initialise_store(place.tracking_uri)
    return Ledger(place.tracking_uri)


def _runs(planned: Plan, place: Storage) -> list:  # type: ignore[type-arg]
    if place.embedded and not place.database.is_file():
        return []
    ledger = _ledger(place)
    name = planned.study.name
    return list(ledger.runs(name)) if name in ledger.studies() else []


def _done(planned: Plan, place: Storage) -> set[str]:
    from rfray.engine.standing import standing

    return set(standing(planned, _runs(planned, place)).finished)


def _ray_executor(planned: Plan, place: Storage, address: str | None):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from rfray.engine.ray_executor import RayExecutor, largest_node, start_ray
    from rfray.sweep_run import refuse_what_never_fits

    start_ray(address)
    refuse_what_never_fits(planned, *largest_node())
    return RayExecutor(planned.study.name, place.tune)


def _resume_command(
    arguments: Sequence[str] | None,
    storage: str | None,
    tracking_uri: str | None,
    address: str | None,
) -> str:
    options = {"--storage": storage, "--tracking-uri": tracking_uri, "--address": address}
    given = [f"{name} {value}" for name, value in options.items() if value]
    return " ".join(["python -m rfray.sweep", *(arguments or []), *given])


def _print_next_steps(console: Console, place: Storage, study: str) -> None:
    folder = f" --storage {place.root}"
    uri = "" if place.embedded else f" --tracking-uri {place.tracking_uri}"
    console.print(
        f"compare the runs:  mlflow ui --backend-store-uri {place.tracking_uri}",
        soft_wrap=True,
        highlight=False,
    )
    console.print(
        f"build the tables:  rfray analyze --study {study}{folder}{uri}",
        soft_wrap=True,
        highlight=False,
    )


if __name__ == "__main__":
    main()
