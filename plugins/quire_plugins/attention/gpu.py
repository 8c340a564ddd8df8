"""What the backends that run Triton's kernels ask of a GPU."""

from __future__ import annotations

from quire_plugins.attention.refusals import refused_by


def check_gpu(name: str) -> None:
    """Raise MissingCapability, for `attention=name`, if the kernels do not run on the GPU that there is.
    Without any it may be that Triton's interpreter plays one.
    """
    import torch

    from quire_kernels.triton.launch import architecture_of

    if torch.cuda.is_available():
        with refused_by(name, instead="attention=sdpa runs on any"):
            architecture_of(torch.device("cuda"))
