"""`text_checkpoints` makes tiny encoders, rerankers and embedding decoders."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
