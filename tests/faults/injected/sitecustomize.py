"""Makes the stages beside this file stages of rfray, in every process that has it on its path."""

from pathlib import Path

import rfray.stages

rfray.stages.__path__.append(str(Path(__file__).parent / "stages"))
