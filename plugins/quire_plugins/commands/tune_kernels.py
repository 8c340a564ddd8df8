"""`quire tune-kernels`: times the launch configurations of the Triton kernels on the GPU at hand.

What is faster than the configuration that a kernel would take by itself goes into a table beside the kernels,
which they read from then on.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from quire.errors import MissingCapability, UserError


def main(arguments: Sequence[str]) -> None:
    """Tune, and write as it goes. Raises MissingCapability where there is no GPU to time on."""
    parser = argparse.ArgumentParser(
        prog="quire tune-kernels",
        description="Time launch configurations of the Triton kernels on this GPU and keep the best.",
    )
    parser.add_argument(
        "only",
        nargs="?",
        default="",
        metavar="REGEX",
        help="cases to tune, as in 'groupwise/w4' (default: all)",
    )
    options = parser.parse_args(arguments)
    try:
        wanted = re.compile(options.only)
    except re.error as error:
        raise UserError(f"tune-kernels: {options.only!r} is no regular expression: {error}") from None
    import torch

    if not torch.cuda.is_available():
        raise MissingCapability("tune-kernels: this machine shows no CUDA device to time kernels on")
    import triton

    from quire_kernels.triton.launch import architecture_of
    from quire_kernels.triton.tuned import TABLES, write_tile
    from quire_kernels.triton.tuning import time_on_gpu, tune, tuning_cases

    device = torch.device("cuda", torch.cuda.current_device())
    architecture = architecture_of(device).name
    origin = f"{torch.cuda.get_device_name(device)}, triton {triton.__version__}, torch {torch.__version__}"
    cases = [case for case in tuning_cases(device) if wanted.search(f"{case.family}/{case.case}")]
    if not cases:
        raise UserError(
            f"tune-kernels: no case is like {options.only!r}; there are attention/decode-x2-d128 "
            "and others in attention, merge, mla, groupwise, grouped, fp8"
        )
    for case in cases:
        write_tile(architecture, case.family, case.case, None, origin=origin)
        found = tune(case, timer=time_on_gpu)
        write_tile(architecture, case.family, case.case, found.tile, origin=origin)
        kept = "default kept" if found.tile is None else ", ".join(f"{k}={v}" for k, v in found.tile.items())
        print(
            f"{case.family}/{case.case}: {found.default_seconds * 1e6:.1f} us by default, "
            f"{found.seconds * 1e6:.1f} us with {kept}; {found.refused} candidates did not run",
            flush=True,
        )
    print(f"written to {TABLES / architecture}.json: compile_all says what these variants use of the GPU")
