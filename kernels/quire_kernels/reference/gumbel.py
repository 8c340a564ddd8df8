"""Draws by the Gumbel-max trick (Maddison, Tarlow and Minka, "A* sampling", NeurIPS 2014), in float64."""

import torch
from torch import Tensor

from quire_kernels.reference.sampling import philox

_LOW = 0xFFFFFFFF


def gumbel_argmax(
    logits_RV: Tensor, tokens_R: Tensor, *, temperatures_R: Tensor, seeds_R: Tensor, positions_R: Tensor
) -> None:
    """One row at a time."""
    parameters = (temperatures_R, seeds_R, positions_R)
    for r, (temperature, seed, position) in enumerate(
        zip(*(each.tolist() for each in parameters), strict=True)
    ):
        scores_V = logits_RV[r].double()
        if temperature > 0:
            scores_V = scores_V / temperature + gumbel_noise(seed, position, len(scores_V))
        tokens_R[r] = (scores_V == scores_V.max()).nonzero()[0, 0]


def gumbel_noise(seed: int, position: int, vocab: int) -> Tensor:
    """The noise [V] of all tokens of one draw."""
    groups_G = torch.arange(-(-vocab // 4))
    words = philox([position & _LOW, position >> 32 & _LOW, groups_G, torch.ones_like(groups_G)], seed)
    complement_V = (torch.stack(words, dim=1).flatten()[:vocab].double() + 0.5) / 2**32
    return -(-torch.log1p(-complement_V)).log()
