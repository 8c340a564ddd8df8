"""Launch configurations: plain functions of architecture and shape, the same on every run.

Nothing is tuned at run time. A configuration is therefore known before a GPU is, and `compile_all` compiles
every one that `variants` lists, for each architecture, on a machine that has no GPU. The functions stand
beside the kernels that they launch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from triton import knobs

if TYPE_CHECKING:
    import torch

ELEMENTS_PER_PROGRAM = 1024
"""Of an element-wise kernel: eight per thread at four warps."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a configuration depends on: the compilation target, its shared memory and its size."""

    name: str
    backend: str
    arch: int | str
    warp_size: int
    shared_bytes: int  # of shared memory that one program may use
    processors: int  # streaming multiprocessors or compute units


# A100; GeForce and workstation parts, which have less shared memory; H100; MI300X.
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            name="sm_80", backend="cuda", arch=80, warp_size=32, shared_bytes=166_912, processors=108
        ),
        Architecture(
            name="sm_86", backend="cuda", arch=86, warp_size=32, shared_bytes=101_376, processors=84
        ),
        Architecture(
            name="sm_90", backend="cuda", arch=90, warp_size=32, shared_bytes=232_448, processors=132
        ),
        Architecture(
            name="gfx942", backend="hip", arch="gfx942", warp_size=64, shared_bytes=65_536, processors=304
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The compile-time half of a kernel launch."""

    constants: dict[str, int | bool]
    num_warps: int
    num_stages: int = 1
    fp_fusion: bool = True
    """Whether a product and a sum may be rounded as one."""

    def options(self) -> dict[str, int | bool]:
        """The compiler's options; floating-point fusion is among them because its default is changing."""
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": self.fp_fusion,
        }

    def keywords(self) -> dict[str, int | bool]:
        """What a kernel call takes by keyword."""
        return {**self.constants, **self.options()}


@cache
def architecture_of(device: torch.device) -> Architecture:
    """The architecture whose configurations a device uses; the interpreter, on a CPU, plays an H100."""
    if device.type == "cpu":
        if not knobs.runtime.interpret:
            raise ValueError("device 'cpu' cannot run Triton kernels; supported: cuda (NVIDIA, AMD)")
        return replace(ARCHITECTURES["sm_90"], processors=4)
    if device.type != "cuda":
        raise ValueError(f"device {device.type!r} cannot run these kernels; supported: cuda (NVIDIA, AMD)")
    import torch

    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        name = properties.gcnArchName.split(":")[0]
        if name not in ("gfx942", "gfx950"):
            raise ValueError(f"GPU {name!r} has no launch configuration; supported: gfx942, gfx950")
        family = "gfx942"
    elif properties.major < 8:
        capability = f"{properties.major}.{properties.minor}"
        raise ValueError(f"GPU compute capability {capability} is too old; supported: 8.0 and later")
    elif properties.shared_memory_per_block_optin < ARCHITECTURES["sm_80"].shared_bytes:
        family = "sm_86"
    else:
        family = "sm_90" if properties.major in (9, 10) else "sm_80"
    return replace(ARCHITECTURES[family], processors=properties.multi_processor_count)
