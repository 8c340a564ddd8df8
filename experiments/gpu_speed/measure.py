"""The GPU path in one run: correctness first, then every speed that the project has a goal for.

    python experiments/gpu_speed/measure.py                      # within 8 minutes, on one H100 or H200
    python experiments/gpu_speed/measure.py kernels decode       # some sections
    python experiments/gpu_speed/measure.py --dry                # every path of the script, on a CPU

It needs torch, triton, transformers, numpy, matplotlib and this repository's sources, no network and no
installation. Every section has its time, and a process that a fault ends takes no other section with it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = [str(HERE.parents[1] / part) for part in ("framework", "plugins", "kernels")]
sys.path[:0] = SOURCES

from box import Box  # noqa: E402
from figures import plot  # noqa: E402
from goals import render, table  # noqa: E402
from stand_ins import provide  # noqa: E402

STAND_INS = provide()


from quire.jobs.provenance import command_line, commit_of, describe_machine  # noqa: E402

GRACE = 20
"""Seconds beyond a section's time after which its process is ended: what it takes to start, and a row."""
PARALLEL = "checkpoint"
"""Written while the checks run, which measure no time."""


@dataclass(frozen=True)
class Group:
    """Sections of one process, with their seconds."""

    sections: dict[str, int]
    interpreted: bool = False
    """Whether a dry run has Triton's interpreter."""
    after_checkpoint: bool = False
    by_default: bool = True


GROUPS = (
    Group({"kernels": 60}, interpreted=True),
    Group({"tokens": 50}),
    Group({"ceilings": 10}),
    Group({"decode_attention": 75}, interpreted=True),
    Group({"prefill_attention": 35}, interpreted=True),
    Group({"decode": 50, "offline": 60, "memory": 66}, after_checkpoint=True),
    Group({"transformers": 70}, after_checkpoint=True),
    Group({"experts": 90}, by_default=False),
)
SECTIONS = [section for group in GROUPS for section in group.sections]
DEFAULT = [section for group in GROUPS if group.by_default for section in group.sections]
LIBRARIES = ("torch", "triton", "transformers", "numpy")


def run_sections(boxes: list[Box]) -> None:
    """In the process of a group: one section after another."""
    if boxes[0].section in ("decode", "offline", "memory"):
        from engine_speed import EngineSections

        engines = EngineSections(boxes[0])
        for box in boxes:
            box.restart()
            {"decode": engines.decode, "offline": engines.offline, "memory": engines.memory}[box.section](box)
        engines.close()
        return
    (box,) = boxes
    if box.section == "checkpoint":
        from checkpoint import write as section
    elif box.section == "kernels":
        from check_kernels import check as section
    elif box.section == "tokens":
        from check_tokens import check as section
    elif box.section == "ceilings":
        from ceilings import measure as section
    elif box.section == "decode_attention":
        from attention_speed import measure_decode as section
    elif box.section == "prefill_attention":
        from attention_speed import measure_prefill as section
    elif box.section == "experts":
        from experts_speed import measure as section
    else:
        from baseline import measure as section
    section(box)


class Run:
    """The parent: one process a group, their rows, and the end of the time."""

    def __init__(self, *, chosen: list[str], dry: bool, seconds: float, directory: Path) -> None:
        self._chosen = chosen
        self._dry = dry
        self._end = time.monotonic() + seconds
        self._rows = directory / "rows.jsonl"
        self._model = directory / "model"
        self._rows.touch()

    def measure(self) -> list[dict]:
        """Run the groups; returns all rows."""
        groups = [(group, [s for s in group.sections if s in self._chosen]) for group in GROUPS]
        writer = None
        if any(sections and group.after_checkpoint for group, sections in groups):
            writer = self._start([PARALLEL], [120.0], interpreted=False)
        for group, sections in groups:
            if not sections:
                continue
            checks = group.sections.keys() <= {"kernels", "tokens"}
            if writer is not None and not checks:  # from here on times count
                self._wait(writer, [PARALLEL], 120)
                writer = None
            left = self._end - time.monotonic()
            seconds = [left if self._dry else min(float(group.sections[s]), left) for s in sections]
            if left < GRACE:
                self._fail(sections, "the run's time was over")
                continue
            process = self._start(sections, seconds, interpreted=group.interpreted)
            self._wait(process, sections, sum(seconds))
        return [json.loads(line) for line in self._rows.read_text().splitlines()]

    def _start(
        self, sections: list[str], seconds: list[float], *, interpreted: bool
    ) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES), "HF_HUB_OFFLINE": "1"}
        if self._dry:
            environment |= {"TRITON_INTERPRET": "1" if interpreted else "0", "CUDA_VISIBLE_DEVICES": ""}
        command = [
            *(sys.executable, str(HERE / "measure.py"), *sections),
            *("--rows", str(self._rows), "--model", str(self._model)),
            *("--boxes", *(f"{each:.0f}" for each in seconds)),
            *(["--dry"] if self._dry else []),
        ]
        return subprocess.Popen(command, env=environment)

    def _wait(self, process: subprocess.Popen[bytes], sections: list[str], seconds: float) -> None:
        left = max(self._end - time.monotonic(), 0.0)
        try:
            code = process.wait(timeout=None if self._dry else min(seconds, left) + GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            self._fail(sections, "ended: its time was over")
            return
        if code:
            self._fail(sections, f"its process ended with {code}")

    def _fail(self, sections: list[str], why: str) -> None:
        for section in sections:
            line = json.dumps({"section": section, "what": section, "failed": why})
            with self._rows.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)


def roomy_directory() -> str | None:
    """Where 17 GB of weights can lie: in memory if there is room."""
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free > 2**35:
        return str(shared)
    return None


def describe_device() -> dict:
    """The GPU's driver and name, as nvidia-smi has them; empty where there is none."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return {"nvidia_smi": done.stdout.strip()} if done.returncode == 0 else {}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "sections", nargs="*", choices=[[], PARALLEL, *SECTIONS], help="default: all but experts"
    )
    parser.add_argument("--dry", action="store_true", help="on a CPU, in sizes that say nothing about speed")
    parser.add_argument("--seconds", type=float, default=460.0, help="of the whole run")
    parser.add_argument("--commit", help="of these sources, where they are no git checkout")
    parser.add_argument("--out", type=Path, default=HERE / "results.json", help="a .png goes beside it")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--boxes", type=float, nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows is not None:
        run_sections(
            [
                Box(
                    section=section,
                    device="cpu" if arguments.dry else "cuda",
                    dry=arguments.dry,
                    seconds=seconds,
                    rows_path=arguments.rows,
                    model=arguments.model,
                )
                for section, seconds in zip(arguments.sections, arguments.boxes, strict=True)
            ]
        )
        sys.stdout.flush()
        os._exit(0)  # threads of what was measured may go on for long
    if not arguments.dry:
        import torch

        if not torch.cuda.is_available():
            print("this machine shows no CUDA device; --dry tries the script on a CPU", file=sys.stderr)
            return 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=None if arguments.dry else roomy_directory()) as directory:
        run = Run(
            chosen=arguments.sections or DEFAULT,
            dry=arguments.dry,
            seconds=math.inf if arguments.dry else arguments.seconds,
            directory=Path(directory),
        )
        rows = run.measure()
    lines = table(rows, dry=arguments.dry)
    report = {
        "command": command_line("experiments/gpu_speed/measure.py"),
        "commit": arguments.commit or commit_of(Path(__file__)),
        "machine": describe_machine() | describe_device(),
        "versions": versions(),
        "stand_ins": STAND_INS,
        "dry": arguments.dry,
        "seconds": time.monotonic() - began,
        "table": lines,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    plot(rows, arguments.out.with_suffix(".png"))
    print(f"\n{render(lines)}\n\n{report['seconds']:.0f} s; {arguments.out}")
    if arguments.dry:
        print("a dry run: of all this only the first two lines and that there were no failures mean anything")
    return 0 if not any("failed" in row or row.get("ok") is False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
