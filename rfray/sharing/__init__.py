"""A study as one file: `rfray export` and `rfray import`.

The archive is a tar file compressed with Zstandard, with a digest at its end (`seal.py`).
`contents.py` describes its files. `packing.py` writes it from a tracking store, `vetting.py` checks
all of it, `unpacking.py` writes it to another store.
"""

from rfray.sharing.packing import Exported, export_study
from rfray.sharing.unpacking import Imported, import_study
from rfray.sharing.vetting import vetted

__all__ = ["Exported", "Imported", "export_study", "import_study", "vetted"]
