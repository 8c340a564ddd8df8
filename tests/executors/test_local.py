"""What the local executor asks of the machine's memory: nothing anew at each step, all of KV if told."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quire.config.compose import compose
from quire.errors import UserError
from quire.registry import load_registry
from quire.run import Run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux counts")

STEPS = 20
PROGRAM = """
import json, resource, sys
from pathlib import Path
from quire.config.compose import compose
from quire.engine.request import Request, SamplingParams
from quire.registry import load_registry
from quire.run import Run

steps, kv_bytes, *overrides = sys.argv[1:]
registry = load_registry()
config = compose(["model=demo", "engine.threads=1", f"engine.kv_bytes={kv_bytes}", *overrides], registry)
status = lambda: dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
engine = Run(config=config, registry=registry, directory=Path()).engine(with_text=False)
resident = int(status()["VmRSS"].split()[0]) * 1024


def add(first, output):
    sampling = SamplingParams(temperature=0.0, max_tokens=output, ignore_eos=True)
    for index in range(first, first + 64):
        prompt = tuple((index * 31 + i * 7) % engine.info.vocab_size for i in range(20))
        engine.add(Request(id=str(index), prompt_token_ids=prompt, sampling=sampling))


def run(least):
    done = 0
    while engine.has_work and (least is None or done < least):
        engine.step()
        engine.take_records()
        done += 1


add(0, 40)
run(None)
add(64, 4 * int(steps) + 20)
run(20)
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run(int(steps))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
engine.close()
print(json.dumps({"faults": faults, "resident": resident}))
"""


def measure(tmp_path: Path, *overrides: str, kv_bytes: str = "64MiB") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(STEPS), kv_bytes, *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("quantization", ["none", "w8a8", "w4a16"])
def test_a_step_takes_no_memory_anew(tmp_path: Path, quantization: str) -> None:
    """Were activations or a product's scratch mapped again at each step, it would fault hundreds of times.

    The least of some windows counts: a system short of memory unmaps pages of libraries now and then.
    """
    assert min(measure(tmp_path, f"quantization={quantization}")["faults"]) < 2 * STEPS


@pytest.mark.slow
def test_prefault_has_all_of_kv_there_before_the_first_step(tmp_path: Path) -> None:
    """Otherwise there is a margin of 64 MiB."""
    plain = measure(tmp_path, kv_bytes="256MiB")
    prefault = measure(tmp_path, "executor.prefault=true", kv_bytes="256MiB")
    assert prefault["resident"] - plain["resident"] > 128 * 2**20


def test_prefault_of_more_than_there_is_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quire_plugins.executors.local.available_bytes", lambda: 2**20)
    overrides = ["model=demo", "executor.prefault=true", "engine.kv_bytes=8MiB"]
    registry = load_registry()
    run = Run(config=compose(overrides, registry), registry=registry, directory=tmp_path)
    with pytest.raises(
        UserError, match=r"^executor.prefault=true: \d+ bytes of KV memory .* 1048576 are free$"
    ):
        run.engine(with_text=False)
