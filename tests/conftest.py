"""Helpers that test folders share: `checkpoints` makes tiny models, `packed` runs them without an engine."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "models"))
