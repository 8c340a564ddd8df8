"""The examples on the page for plugin authors are whole files that keep their contracts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


def test_the_examples_of_kinds_pass_their_suites(tmp_path):
    section = PAGE.read_text().partition("\n## Other kinds\n")[2].partition("\n## ")[0]
    examples = re.findall(r"### ([^\n]+)\n.*?```python\n(.*?)```", section, re.DOTALL)
    assert len(examples) == section.count("\n### ") == 5
    for number, (_, code) in enumerate(examples):
        (tmp_path / f"test_{number}.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 3 * len(examples), "each has a suite"
