"""Arrays packed into one buffer come out of it as they were, each where a kernel can load it."""

import numpy as np
import torch

from quire.runtime.staging import Staging, to_device

ARRAYS = [
    np.arange(5, dtype=np.int64),
    np.array([3, -1, 7], dtype=np.int32),
    np.zeros(0, dtype=np.int64),
    np.arange(6, dtype=np.int32).reshape(2, 3),
    np.array([0.5, 2.0**-53], dtype=np.float64),
    np.array([1.5], dtype=np.float32),
]


def test_what_is_packed_can_be_cut_out():
    staging = Staging(ARRAYS)
    buffer = staging.pack(ARRAYS, pinned=False)
    assert buffer.nbytes == staging.num_bytes
    for tensor, array in zip(staging.cut(buffer), ARRAYS, strict=True):
        assert torch.equal(tensor, torch.from_numpy(array))
        assert (tensor.data_ptr() - buffer.data_ptr()) % 16 == 0


def test_the_places_are_those_of_other_arrays_of_the_same_shapes():
    staging = Staging(ARRAYS)
    buffer = staging.pack(ARRAYS, pinned=False)
    views = staging.cut(buffer)
    buffer.copy_(staging.pack([array * 2 for array in ARRAYS], pinned=False))
    for tensor, array in zip(views, ARRAYS, strict=True):
        assert torch.equal(tensor, torch.from_numpy(array * 2))


def test_on_a_cpu_nothing_is_copied():
    array = np.arange(4)
    (tensor,) = to_device([array], torch.device("cpu"))
    tensor[2] = 9
    assert array[2] == 9
