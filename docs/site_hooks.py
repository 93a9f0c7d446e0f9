"""What the pages link to outside this folder comes along as it is: results, sweeps, reports."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
_OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file, or every file of a folder, that a page links to with `../`."""
    pages = [file for file in files if file.src_uri.endswith(".md")]
    wanted = {target for page in pages for target, _ in _OUTSIDE.findall(page.content_string)}
    for target in sorted(wanted):
        path = ROOT / target
        if path.is_file():
            files.append(File.generated(config, target, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of the folder lead to what was added; a folder is named and not linked."""
    del page, config, files

    def inside(found: re.Match[str]) -> str:
        target, anchor = found.group(1), found.group(2) or ""
        return f"]({target}{anchor})"

    folders = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")
    markdown = folders.sub(
        lambda m: m.group(0) if (ROOT / m.group(2)).is_file() else m.group(1), markdown
    )
    return _OUTSIDE.sub(inside, markdown)
