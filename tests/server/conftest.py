"""These tests share `engines`, and `text_checkpoints` with those of the embedder."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "embedding")]
