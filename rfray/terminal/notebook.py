"""Tables and texts of rich as HTML for a notebook. Pure."""

from collections.abc import Iterator
from html import escape

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text


def html(shown: RenderableType) -> str:
    """A group of tables and texts as HTML; special characters are escaped.

    Raises:
        TypeError: It contains something else.
    """
    return "\n".join(_parts(shown))


def _parts(shown: RenderableType) -> Iterator[str]:
    match shown:
        case Group():
            for part in shown.renderables:
                yield from _parts(part)
        case Table():
            yield _table(shown)
        case Text():
            if shown.plain:  # an empty text is a blank line; paragraphs need none
                yield f"<p>{_text(shown)}</p>"
        case str():
            yield f"<p>{escape(shown)}</p>"
        case _:
            raise TypeError(f"no HTML for {type(shown).__name__}")


def _table(table: Table) -> str:
    columns = [[_text(cell) for cell in column.cells] for column in table.columns]
    heads = "".join(_cell("th", column, _text(column.header)) for column in table.columns)
    rows = (
        "".join(_cell("td", *pair) for pair in zip(table.columns, row, strict=True))
        for row in zip(*columns, strict=True)
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cell(kind: str, column: Column, content: str) -> str:
    return f'<{kind} style="text-align: {column.justify}">{content}</{kind}>'


def _text(cell: RenderableType) -> str:
    return escape(cell.plain if isinstance(cell, Text) else str(cell))
