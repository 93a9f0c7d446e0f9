"""A study as one file: `rfray export` and `rfray import`.

The archive is a tar in Zstandard, sealed with a digest (`seal.py`), whose members `contents.py`
describes. `packing.py` writes it from a tracking store, `vetting.py` reads all of it before
anything is believed, `unpacking.py` writes it to another store.
"""

from rfray.sharing.packing import Exported, export_study
from rfray.sharing.unpacking import Imported, import_study
from rfray.sharing.vetting import vetted

__all__ = ["Exported", "Imported", "export_study", "import_study", "vetted"]
