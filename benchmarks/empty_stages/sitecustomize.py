"""Puts the empty stages beside this file in the place of rfray's, where it is on the path."""

import sys
from pathlib import Path

import rfray.stages

rfray.stages.__path__.insert(0, str(Path(__file__).parent / "stages"))
sys.path.insert(0, str(Path(__file__).parent))
