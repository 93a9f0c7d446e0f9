"""Whether data sets can be read on this machine, asked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable

from rfray.data.folders import prepared_file, prepared_notes
from rfray.data.registry import dataset_source


def refuse_unreadable(names: Iterable[str]) -> None:
    """Prepare data sets that are not prepared yet; one that is costs a look at its header.

    Raises:
        UserError: The files of one are missing, damaged or not the published ones.
    """
    for name in names:
        source = dataset_source(name)
        if prepared_notes(prepared_file(source.facts.fingerprint)) is None:
            from rfray.data.cache import prepared  # PyTorch, which a prepared one spares

            prepared(source)
