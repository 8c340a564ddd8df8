"""`recordings` writes the files of runs, without an engine; `browser` is the server tests' Chromium."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "server" / "http")]
