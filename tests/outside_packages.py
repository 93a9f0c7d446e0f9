"""Packages that are installed in a folder of their own, as pip would leave them."""

from __future__ import annotations

from pathlib import Path

STAGE = """\
from rfray.parameters import Parameters
from rfray.stages.stage import Stage


class {title}Parameters(Parameters):
    \"\"\"What it counts.\"\"\"

    times: int = 1


def run(context):
    context.report(0, {{"layers": len(list(context.cell.network)) * context.parameters.times}})


STAGE = Stage(
    name="{name}",
    version=1,
    parameters={title}Parameters,
    scope="network",
    reads={reads},
    run=run,
    work=lambda parameters, cell: 1.0,
    summary="its layers counted",
    headline="layers",
)
"""


def stage_file(name="counted", reads=()):
    """The text of a file with a stage that trains nothing."""
    return STAGE.format(name=name, title=name.title(), reads=repr(tuple(reads)))


def installed(site: Path, name, files, offers, requires=(), version="1.0"):
    """Put a package into a folder that Python's path has.

    Args:
        site: The folder.
        name: Of the package.
        files: Texts by their paths in the folder.
        offers: Per group of entry points, as `stages`: what they are, such as `a = module:THING`.
        requires: What it needs.
        version: Its own.
    """
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {one}" for one in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    groups = (f"[rfray.{kind}]\n" + "\n".join(one) for kind, one in offers.items())
    (info / "entry_points.txt").write_text("\n".join(groups) + "\n")
