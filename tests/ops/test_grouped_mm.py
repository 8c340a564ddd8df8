"""torch's grouped product, as bfloat16 on a GPU takes it."""

import pytest
import torch

from quire.testing import op_formulas
from quire_plugins.ops.grouped import GroupedMM, runs_grouped_mm


@pytest.mark.parametrize("counts", [[2, 0, 3, 1], [0, 0, 0, 5], [1, 0, 0, 0]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_groups_are_multiplied_by_their_weights(counts, dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    weights_GOI = (torch.randn(4, 16, 32, generator=generator) / 6).to(dtype)
    x_TI = torch.randn(sum(counts), 32, generator=generator).to(dtype)
    ends_G = torch.tensor(counts).cumsum(0).to(torch.int32)
    groups = zip(x_TI.split(counts), weights_GOI, strict=True)
    expected_TO = torch.cat([op_formulas.product(x, weight) for x, weight in groups])
    got_TO = GroupedMM(iter(weights_GOI.clone()))(x_TI, ends_G)
    torch.testing.assert_close(got_TO.double(), expected_TO, rtol=tolerance, atol=tolerance)


def test_it_is_for_gpus_alone():
    assert not runs_grouped_mm(torch.zeros(16, 32, dtype=torch.bfloat16))
