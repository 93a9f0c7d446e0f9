"""From a sweep file and `key=value` overrides to a study, or to what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rfray import grid
from rfray.errors import UserError, in_words, nearest
from rfray.files.yaml_file import parse_value, read_mapping
from rfray.models.knobs import DILATION, POOL
from rfray.models.outside import use_network_folders
from rfray.parameters import Parameters
from rfray.plugins import read_plugin_files, use_plugin_files
from rfray.search.draws import INSTALL_OPTUNA, draws, optuna_problem
from rfray.search.space import Domain
from rfray.stages.registry import broken_stages, sections, stages
from rfray.stages.search import DrawnSearch, SearchParameters
from rfray.study import ChosenLayers, Data, Knobs, Request, Study, study_model, when_model
from rfray.study.naming import SEARCH, TRAIN
from rfray.study.settings import TURNS, advice, settings
from rfray.study.shelves import refuse_wrong_files

DEFAULT_SWEEP = "quickstart"
SWEEP_VARIABLE = "RFRAY_SWEEP"


def load_study(sweep: str | None, overrides: Sequence[str] = ()) -> Study:
    """The study of a sweep file with overrides applied.

    From now on files of networks are looked for beside it, then in the working directory, and its
    plug-ins are in use.

    Args:
        sweep: A path, or the name of a shipped file; None takes RFRAY_SWEEP, else `quickstart`.
        overrides: Such as `axes.seed=[0,1]` or `train.epochs=5`.

    Raises:
        UserError: The file is not there or is no valid study, or an override is malformed.
    """
    path = find_sweep(sweep or os.environ.get(SWEEP_VARIABLE) or DEFAULT_SWEEP)
    use_network_folders((path.parent, Path.cwd()))
    document, lines = read_mapping(path)
    places = {key: f"{path}:{line}" for key, line in lines.items()}
    for override in overrides:
        document = overridden(document, override)
        key = override.partition("=")[0]
        places = {path: place for path, place in places.items() if not path.startswith(f"{key}.")}
        # The error may be of a key on the way, as where there is none of that name.
        prefixes = accumulate(key.split("."), lambda path, part: f"{path}.{part}")
        places |= {path: "command line" for path in prefixes if path not in places or path == key}
    _use_plugins(document.get("plugins"), (path.parent, Path.cwd()))
    return parse_study(document, source=str(path), places=places)


def make_study(document: Mapping[str, Any]) -> Study:
    """The study of a document that stands in no file.

    Files of networks and its plug-ins are looked for in the working directory, and are in use from
    now on.

    Args:
        document: Keys and values as in a sweep file; lists may be tuples or ranges.

    Raises:
        UserError: It is no valid study.
    """
    written = _as_written(document)
    use_network_folders((Path.cwd(),))
    _use_plugins(written.get("plugins"), (Path.cwd(),))
    return parse_study(written, source="the study")


def _as_written(value: Any) -> Any:
    """What YAML would have read: its types alone."""
    if isinstance(value, Mapping):
        return {key: _as_written(one) for key, one in value.items()}
    return [_as_written(one) for one in value] if isinstance(value, list | tuple | range) else value


def _use_plugins(names: Any, folders: Sequence[Path]) -> None:
    """Have this process look at a study's plug-in files; UserError if one cannot be used."""
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    # What is no list of names, the study's own check tells.
    use_plugin_files(read_plugin_files(names, folders) if listed else {})
    refuse_wrong_files()


def find_sweep(name: str) -> Path:
    """The sweep file that `name` means: a path, or a shipped file's name without `.yaml`."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in shipped_folder("sweeps").glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    if path.suffix or len(path.parts) > 1:
        raise UserError("there is no such sweep file", where=name, do=nearest(path.stem, shipped))
    raise UserError(f"no sweep is called '{name}'", do=nearest(name, shipped))


def shipped_folder(kind: str) -> Path:
    """Folder of the files that come with rfray: `sweeps` or `analysis`.

    They lie beside the package in a checkout, and inside it in an installed wheel.
    """
    package = Path(__file__).resolve().parents[1]
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def overridden(document: dict[str, Any], override: str) -> dict[str, Any]:
    """`document` with one `dotted.key=value` set; the value is YAML.

    Raises:
        UserError: There is no `=`, no key, or the key leads through a value that has no keys.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if parts[0] == "axes":  # an axis bears its setting's dotted name: train.learning_rate
        parts = ["axes", ".".join(parts[1:])] if len(parts) > 1 else parts
    if not equals or not all(parts):
        raise UserError(f"'{override}' is no override", do="write key=value, as in train.epochs=5")
    changed = deepcopy(document)
    place = changed
    for part in parts[:-1]:
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            raise UserError(f"'{part}' has a value and no keys of its own", where=override)
    place[parts[-1]] = parse_value(text, where=override)
    return changed


def parse_study(
    document: Mapping[str, Any], *, source: str, places: Mapping[str, str] | None = None
) -> Study:
    """Validate a document.

    Args:
        document: As read from a sweep file, overrides applied.
        source: What to call it in a message, usually the file's path.
        places: Where a dotted key was written, such as `sweep.yaml:7`; `source` where unknown.

    Raises:
        UserError: An unknown key, a wrong type, an impossible value; it names the key, the value
            and the nearest valid name.
    """
    for name in document:
        if name in broken_stages() and document[name] is not False:
            raise broken_stages()[name]
    # A stage named without parameters (`cka:`) runs with its defaults, one set to false not at all.
    filled = {
        key: {} if value is None and key in sections() else value
        for key, value in document.items()
        if not (value is False and key in sections())
    }
    try:
        study = study_model().model_validate(filled)
    except ValidationError as error:
        raise _user_error(error, source, places or {}) from error
    study = _with_samples(study, source, places or {})
    _refuse_missing_axes(study, source, places or {})
    _refuse_missing_inputs(study, source)
    _refuse_wrong_grid(study, source, places or {})
    _refuse_wrong_knobs(study, source, places or {})
    return study


def _with_samples(study: Study, source: str, places: Mapping[str, str]) -> Study:
    """The study with the samples of its search drawn.

    Raises:
        UserError: It searches what cannot be searched, or has nothing to compare samples by.
    """
    search: SearchParameters | None = getattr(study, SEARCH)
    if search is None:
        return study
    where = f"{places.get(SEARCH, source)}: {SEARCH}"
    if getattr(study, TRAIN) is None:
        raise UserError(
            "a search tries settings of training, which the study does not run",
            where=where,
            do="add a key 'train:', or leave the search out: search=false",
        )
    if study.data.validation is None:
        raise UserError(
            "a search compares its samples on images that are held out, and none are",
            where=where,
            do="add data: {validation: 0.1}",
        )
    place = f"{places.get(f'{SEARCH}.space', source)}: {SEARCH}.space"
    for name in search.space:
        _refuse_unsearchable(name, study, place)
    drawn = [dict(choice) for choice in draws(search.space, _to_draw(search, where))]
    for name, domain in search.space.items():
        _refuse_wrong_values(name, domain, [choice[name] for choice in drawn], place)
    with_draws = DrawnSearch.model_validate({**search.model_dump(), "drawn": drawn})
    return study.model_copy(update={SEARCH: with_draws})


def _to_draw(search: SearchParameters, where: str) -> int:
    """How many samples are drawn; UserError if others are to be proposed and cannot be."""
    if search.algorithm == "random":
        return search.samples
    problem = optuna_problem()
    if problem is not None:
        raise UserError(problem, where=f"{where}.algorithm", do=INSTALL_OPTUNA)
    if search.startup >= search.samples:
        raise UserError(
            f"startup is {search.startup} of {search.samples} samples: Optuna has none to propose",
            where=f"{where}.startup",
            do="lower it, or take more samples",
        )
    return search.startup


def _refuse_unsearchable(name: str, study: Study, where: str) -> None:
    of_training = [known for known in settings() if known.startswith(f"{TRAIN}.")]
    if name not in of_training:
        what = (
            f"'{name}' is no setting of training, and a search tries those alone"
            if name in settings()
            else f"'{name}' is no setting that can be searched"
        )
        alike = [known for known in of_training if known.partition(".")[2] == name]
        do = f"did you mean '{alike[0]}'?" if alike else nearest(name, of_training)
        raise UserError(what, where=where, do=do)
    varied = study.grid
    if name in varied.names or name in (varied.usual or {}):
        what = "an axis" if name in varied.names else "set by `when`"
        raise UserError(
            f"'{name}' is searched, and {what} as well",
            where=where,
            do="leave it out of one of them",
        )


def _refuse_wrong_values(name: str, domain: Domain, drawn: Sequence[Any], where: str) -> None:
    """UserError if a setting cannot have a value that a search may give it."""
    kind: TypeAdapter[Any] = TypeAdapter(settings()[name].type)
    for value in (*domain.values, *drawn):
        try:
            kind.validate_python(value, strict=True)
        except ValidationError as error:
            raise UserError(in_words(error.errors()[0]), where=f"{where}: {name}") from error


_REQUIRED_AXES = ("dataset", "arch", "seed")


def _refuse_missing_axes(study: Study, source: str, places: Mapping[str, str]) -> None:
    for name in _REQUIRED_AXES:
        if name not in study.grid.names:
            where = f"{places.get('axes', source)}: axes"
            raise UserError(f"the key '{name}' is missing", where=where, do=f"add {name}: [...]")


def _refuse_wrong_knobs(study: Study, source: str, places: Mapping[str, str]) -> None:
    """UserError unless one setting says how far knobs are turned, and can say it of each."""
    varied = study.grid
    named = [one for one in TURNS if one in varied.names or one in (varied.usual or {})]
    where = f"{places.get('axes', source)}: axes"
    if not named:
        raise UserError(
            "the key 'kernel_size' is missing", where=where, do="add kernel_size: [...]"
        )
    if len(named) > 1:
        raise UserError(
            f"'{named[0]}' and '{named[1]}' both say how far the knob is turned",
            where=where,
            do=f"leave one of them out: axes.{named[0]}=null",
        )
    knobs = dict.fromkeys(point.get("knob", POOL) for point in study.points())
    other = next((one for one in knobs if one != POOL), None)
    if other is not None and named == ["kernel_size"]:
        raise UserError(
            f"'kernel_size' is the pool's, and the knob is '{other}'",
            where=where,
            do="say receptive_field: [...] or strength: [...] in its place",
        )
    if study.knobs.dilation is not None and DILATION not in knobs:
        raise UserError(
            "chooses layers of the knob 'dilation', which the study does not turn",
            where=f"{places.get('knobs', source)}: knobs.dilation",
            do="leave it out, or add axes.knob: [dilation]",
        )


def _refuse_wrong_grid(study: Study, source: str, places: Mapping[str, str]) -> None:
    """UserError if an axis is of a stage that does not run, or the grid contradicts itself."""
    varied, present = study.grid, study.stage_parameters()
    for name in (*sorted(varied.names), *(varied.usual or {})):
        stage, dot, _ = name.partition(".")
        if dot and stage not in present:
            raise UserError(
                f"'{name}' is of the stage '{stage}', which the study does not run",
                where=source,
                do=f"add a key '{stage}:', or leave '{name}' out",
            )
    for problem in grid.problems(varied):
        place = places.get(problem.entry, places.get(problem.entry.partition(".")[0], source))
        raise UserError(problem.what, where=f"{place}: {problem.entry}", do=problem.do)


def _refuse_missing_inputs(study: Study, source: str) -> None:
    present = study.stage_parameters()
    for name in present:
        for needed in stages()[name].reads:
            if needed not in present:
                raise UserError(
                    f"the stage '{name}' reads '{needed}', which the study does not run",
                    where=f"{source}: {name}",
                    do=f"add a key '{needed}:', or leave '{name}' out: {name}=false",
                )
    if not present:
        raise UserError("the study runs no stage", where=source, do="add a key 'train:'")


def _user_error(error: ValidationError, source: str, places: Mapping[str, str]) -> UserError:
    # A misspelt key is also a missing one: the misspelling is what the reader should hear of.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    on_the_way = [".".join(path[:count]) for count in range(len(path), 0, -1)]
    place = next((places[key] for key in on_the_way if key in places), source)
    others = f"; {error.error_count() - 1} more below it" if error.error_count() > 1 else ""
    return UserError(
        f"{_sentence(first)}{others}", where=f"{place}: {'.'.join(path)}", do=_remedy(first)
    )


_OF_SETTINGS = ("axes", "zip", "exclude", "if", "set")


def _names_settings(path: Sequence[int | str]) -> bool:
    """Whether the keys at a place in a sweep file are names of settings."""
    keys = [part for part in path if isinstance(part, str)]
    return bool(keys) and keys[-1] in _OF_SETTINGS


def _sentence(details: Any) -> str:
    if details["type"] == "extra_forbidden" and _names_settings(details["loc"][:-1]):
        return f"'{details['loc'][-1]}' is no setting that can vary"
    return in_words(details)


def _remedy(details: Any) -> str:
    if details["type"] == "extra_forbidden":
        name, path = str(details["loc"][-1]), details["loc"][:-1]
        return advice(name) if _names_settings(path) else nearest(name, _fields_at(path))
    if details["type"] == "list_type":
        return f"write [{details['input']}]"
    return ""


def _fields_at(path: tuple[int | str, ...]) -> list[str]:
    model: type[Parameters] = study_model()
    for part in path:
        if part == "resources":
            model = Request
        elif part == "data":
            model = Data
        elif part == "knobs":
            model = Knobs
        elif model is Knobs:
            model = ChosenLayers
        elif part == "when":
            model = when_model()
        elif str(part) in sections():
            model = sections()[str(part)].parameters if model is not Request else Request
    return list(model.model_fields)
