"""From a sweep file and `key=value` overrides to a study, or to an error in one line."""

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import accumulate
from pathlib import Path
from typing import Any, get_args

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
from rfray.study import Study, study_model
from rfray.study.naming import SEARCH, TRAIN
from rfray.study.settings import TURNS, advice, settings
from rfray.study.shelves import refuse_wrong_files

DEFAULT_SWEEP = "quickstart"
SWEEP_VARIABLE = "RFRAY_SWEEP"


def load_study(sweep: str | Path | None, overrides: Sequence[str] = ()) -> Study:
    """The study of a sweep file with overrides applied.

    From now on this process looks for files of networks next to the sweep file, then in the
    working directory, and uses the study's plug-ins.

    Args:
        sweep: A path, or the name of a shipped file; None takes RFRAY_SWEEP, else `quickstart`.
        overrides: Such as `axes.seed=[0,1]` or `train.epochs=5`.

    Raises:
        UserError: The file does not exist, the study is not valid, or an override is malformed.
    """
    path = find_sweep(str(sweep or os.environ.get(SWEEP_VARIABLE) or DEFAULT_SWEEP))
    use_network_folders((path.parent, Path.cwd()))
    document, lines = read_mapping(path)
    places = {key: f"{path}:{line}" for key, line in lines.items()}
    for override in overrides:
        document = overridden(document, override)
        key = override.partition("=")[0]
        places = {path: place for path, place in places.items() if not path.startswith(f"{key}.")}
        # An error may name a key above it, for example if there is no key of that name.
        prefixes = accumulate(key.split("."), lambda path, part: f"{path}.{part}")
        places |= {path: "command line" for path in prefixes if path not in places or path == key}
    _use_plugins(document.get("plugins"), (path.parent, Path.cwd()))
    return parse_study(document, source=str(path), places=places)


def make_study(document: Mapping[str, Any]) -> Study:
    """The study of a document that is not in a file.

    From now on this process looks for files of networks and plug-ins in the working directory.

    Args:
        document: Keys and values as in a sweep file; lists may be tuples or ranges.

    Raises:
        UserError: The study is not valid.
    """
    written = _as_written(document)
    use_network_folders((Path.cwd(),))
    _use_plugins(written.get("plugins"), (Path.cwd(),))
    return parse_study(written, source="the study")


def _as_written(value: Any) -> Any:
    """The document with only types that YAML has."""
    if isinstance(value, Mapping):
        return {key: _as_written(one) for key, one in value.items()}
    return [_as_written(one) for one in value] if isinstance(value, list | tuple | range) else value


def _use_plugins(names: Any, folders: Sequence[Path]) -> None:
    """Have this process use a study's plug-in files; UserError if one cannot be used."""
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    # Anything else is refused when the study is checked.
    use_plugin_files(read_plugin_files(names, folders) if listed else {})
    refuse_wrong_files()


def find_sweep(name: str) -> Path:
    """The sweep file of that name: a path, or a shipped file's name without `.yaml`."""
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

    They are next to the package in a checkout, and inside it in an installed wheel.
    """
    package = Path(__file__).resolve().parents[1]
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def overridden(document: dict[str, Any], override: str) -> dict[str, Any]:
    """`document` with one `dotted.key=value` set; the value is YAML.

    Raises:
        UserError: There is no `=`, no key, or a part of the key has a value and no keys.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if parts[0] == "axes":  # the name of an axis may have a dot: train.learning_rate
        parts = ["axes", ".".join(parts[1:])] if len(parts) > 1 else parts
    if not equals or not all(parts):
        what = f"'{override}' is not a change of a setting"
        raise UserError(what, do="write key=value, as in train.epochs=5")
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
        source: Its name in messages, usually the file's path.
        places: Where each dotted key was written, such as `sweep.yaml:7`; else `source`.

    Raises:
        UserError: A key is unknown, a type is wrong, or a value is impossible. It names the key,
            the value and the nearest valid name.
    """
    for name in document:
        if name in broken_stages() and document[name] is not False:
            raise broken_stages()[name]
    # A stage without parameters (`cka:`) runs with its defaults; a stage set to false does not run.
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
        UserError: A setting cannot be searched, or nothing compares the samples.
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
    """How many samples are drawn; UserError if Optuna is to propose others and cannot."""
    if search.algorithm == "random":
        return search.samples
    problem = optuna_problem()
    if problem is not None:
        raise UserError(problem, where=f"{where}.algorithm", do=INSTALL_OPTUNA)
    if search.startup >= search.samples:
        raise UserError(
            f"startup is {search.startup} of {search.samples} samples: none is left for Optuna",
            where=f"{where}.startup",
            do="lower it, or take more samples",
        )
    return search.startup


def _refuse_unsearchable(name: str, study: Study, where: str) -> None:
    of_training = [known for known in settings() if known.startswith(f"{TRAIN}.")]
    if name not in of_training:
        what = (
            f"'{name}' is not a setting of train, and only those can be searched"
            if name in settings()
            else f"'{name}' is not a setting that can be searched"
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
    """UserError if a value that the search may choose is not valid for the setting."""
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
    """UserError unless exactly one setting says how far knobs are turned, and fits every knob."""
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
            f"'kernel_size' is for the knob 'pool', and the knob is '{other}'",
            where=where,
            do="write receptive_field: [...] or strength: [...] instead",
        )
    if study.knobs.dilation is not None and DILATION not in knobs:
        raise UserError(
            "chooses layers for the knob 'dilation', which the study does not turn",
            where=f"{places.get('knobs', source)}: knobs.dilation",
            do="leave it out, or add axes.knob: [dilation]",
        )


def _refuse_wrong_grid(study: Study, source: str, places: Mapping[str, str]) -> None:
    """UserError if an axis belongs to a stage that does not run, or the grid contradicts itself."""
    varied, present = study.grid, study.stage_parameters()
    for name in (*sorted(varied.names), *(varied.usual or {})):
        stage, dot, _ = name.partition(".")
        if dot and stage not in present:
            raise UserError(
                f"'{name}' belongs to the stage '{stage}', which the study does not run",
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
    # A misspelt key is also a missing one. The message is about the misspelling.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    keys = [".".join(path[:count]) for count in range(len(path), 0, -1)]
    place = next((places[key] for key in keys if key in places), source)
    others = f"; {error.error_count() - 1} more below it" if error.error_count() > 1 else ""
    what, do = _problem(first)
    return UserError(f"{what}{others}", where=f"{place}: {'.'.join(path)}", do=do)


_OF_SETTINGS = ("axes", "zip", "exclude", "if", "set")
"""The keys whose own keys are names of settings."""


def _problem(details: Any) -> tuple[str, str]:
    """An error from pydantic in a sentence, and what to do about it."""
    if details["type"] == "extra_forbidden":
        *path, name = details["loc"]
        keys = [part for part in path if isinstance(part, str)]
        if keys and keys[-1] in _OF_SETTINGS:
            return f"'{name}' is not a setting that can vary", advice(str(name))
        return in_words(details), nearest(str(name), _fields_at(path))
    do = f"write [{details['input']}]" if details["type"] == "list_type" else ""
    return in_words(details), do


def _fields_at(path: Sequence[int | str]) -> list[str]:
    """The keys that are valid at a place in a sweep file."""
    model: type[Parameters] = study_model()
    for part in path:
        if part in model.model_fields:
            model = next(_models_in(model.model_fields[str(part)].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[Parameters]]:
    """The types of documents within the type of a setting, such as a list or an option of one."""
    if isinstance(annotation, type) and issubclass(annotation, Parameters):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
