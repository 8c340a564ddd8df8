"""What tests of whole runners share."""

import pytest
import torch
from checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("qwen3")
    make_checkpoint("qwen3", path)
    return path
