"""The report: one HTML page that contains all it shows and loads nothing from a network."""

import base64
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rfray import __version__
from rfray.analysis.comparison_report import COLUMNS, rows_by_setting
from rfray.analysis.contents import Contents, beyond_plan, odd_values, why
from rfray.analysis.expected import progress
from rfray.analysis.figures import DrawnFigure
from rfray.analysis.figures.style import colour
from rfray.analysis.frame import StudyFrame
from rfray.analysis.links import runs_link, ui_address, ui_command
from rfray.analysis.presentation import (
    blocks,
    cell_text,
    flaws,
    interval_text,
    number,
    published_text,
    remarks,
    sampling_error_text,
    size_heading,
    trends_across,
)
from rfray.analysis.provenance import facts
from rfray.analysis.search_report import EXPLAINED, headings, search_rows
from rfray.analysis.values import show

_TEMPLATES = PackageLoader("rfray.analysis")
_CODE = re.compile(r"`([^`]*)`")
_SAID: tuple[Callable[..., object], ...] = (
    *(facts, progress, beyond_plan, odd_values, why, headings, search_rows, rows_by_setting),
    *(blocks, cell_text, flaws, interval_text, number, published_text, remarks, colour),
    *(sampling_error_text, size_heading, trends_across),
)
"""The functions that the template calls to put the contents into words."""


def html_text(contents: Contents, pictures: Mapping[str, bytes]) -> str:
    """The report as one self-contained page, with the SVG of each figure by the figure's id."""
    frame = contents.frame
    environment = Environment(
        loader=_TEMPLATES,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _with_code, "show": show, "plain": _plain}
    environment.tests["nan"] = math.isnan
    environment.globals |= {one.__name__: one for one in _SAID}
    environment.globals["link"] = partial(runs_link, frame)
    script = _TEMPLATES.get_source(environment, "report.js")[0]
    return environment.get_template("report.html").render(
        script=Markup(script),  # noqa: S704 the package's own
        script_digest=f"sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}",
        runs=_runs(frame),
        contents=contents,
        frame=frame,
        version=__version__,
        ui=ui_address(frame.tracking_uri),
        ui_command=ui_command(frame.tracking_uri),
        served=frame.tracking_uri.startswith(("http://", "https://")),
        chosen=EXPLAINED,
        comparison_columns=COLUMNS,
        figures=[_figure(figure, pictures[figure.id]) for figure in contents.figures],
    )


def _with_code(text: str) -> Markup:
    """Escaped text, in which text between backticks is marked as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 escaped above


def _plain(value: object) -> str:
    """A setting of a stage as text; a list as its items."""
    return " ".join(_plain(v) for v in value) if isinstance(value, list | tuple) else str(value)


def _runs(frame: StudyFrame) -> dict[str, Any]:
    """The names of all runs that the page links to, for the script that lists a number's runs."""
    return {
        "address": ui_address(frame.tracking_uri),
        "studies": [
            {
                "name": one.study,
                "experiment": one.experiment_id,
                "runs": {record.run_id: record.name for record in one.records},
            }
            for one in frame.studies
        ],
    }


def _figure(figure: DrawnFigure, picture: bytes) -> dict[str, Any]:
    width, height = figure.figure.get_size_inches()
    return {
        "id": figure.id,
        "title": figure.title,
        "source": f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}",
        "width": round(float(width) * 96),
        "height": round(float(height) * 96),
        "gaps": len(figure.gaps),
    }
