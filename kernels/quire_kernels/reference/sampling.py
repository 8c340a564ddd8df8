"""Draws from rows of logits, and filters them, by sorting them: one row and one number at a time."""

import math

import torch
from torch import Tensor

_UNIT = 2.0**40
_LOW = 0xFFFFFFFF


def sample_tokens(
    logits_RV: Tensor,
    tokens_R: Tensor,
    *,
    temperatures_R: Tensor,
    top_ks_R: Tensor,
    top_ps_R: Tensor,
    min_ps_R: Tensor,
    seeds_R: Tensor,
    positions_R: Tensor,
) -> None:
    """Every row by its own parameters."""
    parameters = (temperatures_R, top_ks_R, top_ps_R, min_ps_R, seeds_R, positions_R)
    for r, (temperature, top_k, top_p, min_p, seed, position) in enumerate(
        zip(*(each.tolist() for each in parameters), strict=True)
    ):
        logits_V = logits_RV[r].float()
        if temperature == 0:
            tokens_R[r] = (logits_V == logits_V.max()).nonzero()[0, 0]
        else:
            kept = _kept(logits_V, temperature, top_k, top_p, min_p)
            tokens_R[r] = _draw(kept, uniform(seed, position))


def filter_tokens(
    logits_RV: Tensor, *, temperatures_R: Tensor, top_ks_R: Tensor, top_ps_R: Tensor, min_ps_R: Tensor
) -> None:
    """Every row by its own parameters."""
    parameters = (temperatures_R, top_ks_R, top_ps_R, min_ps_R)
    for logits_V, (temperature, top_k, top_p, min_p) in zip(
        logits_RV, zip(*(each.tolist() for each in parameters), strict=True), strict=True
    ):
        if temperature > 0 and (top_k < len(logits_V) or top_p < 1 or min_p > 0):
            kept = _kept(logits_V, temperature, top_k, top_p, min_p)
            logits_V[torch.tensor(kept) == 0] = -math.inf


def _kept(logits_V: Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> list[int]:
    """Each token's integer weight, 0 of those that the filters drop."""
    shares_V = ((logits_V - logits_V.max()) / temperature).exp()
    weights = (shares_V * _UNIT).to(torch.int64).tolist()
    least = logits_V.sort(descending=True).values[top_k - 1]
    kept = [w if logit >= least else 0 for w, logit in zip(weights, logits_V, strict=True)]
    if top_p < 1:
        kept = _nucleus(kept, top_p)
    return [w if w >= math.ceil(min_p * _UNIT) else 0 for w in kept]


def _nucleus(weights: list[int], top_p: float) -> list[int]:
    """The smallest set of largest weights whose share reaches top_p; of equal ones the first."""
    wanted = float(sum(weights)) * top_p
    kept, ahead = [0] * len(weights), 0
    for token in sorted(range(len(weights)), key=lambda token: (-weights[token], token)):
        if float(ahead) >= wanted:
            break
        kept[token] = weights[token]
        ahead += weights[token]
    return kept


def _draw(weights: list[int], share: float) -> int:
    """The first token whose cumulative weight exceeds that share of the total."""
    target = int(share * float(sum(weights)))
    cumulative = 0
    for token, weight in enumerate(weights):
        cumulative += weight
        if cumulative > target:
            return token
    return len(weights) - 1


def uniform(seed: int, position: int) -> float:
    """53 random bits of `philox`: seed as key, position as counter."""
    words = philox([position & _LOW, position >> 32 & _LOW, 0, 0], seed)
    return (words[0] << 21 | words[1] >> 11) * 2.0**-53


def philox(counter: list, seed: int) -> list:
    """Philox4x32-10 (Salmon et al., SC 2011): four words of 32 bits, each an integer or an int64 tensor."""
    c = counter
    key = [seed & _LOW, seed >> 32 & _LOW]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 & _LOW ^ c[1] ^ key[0], b & _LOW, a >> 32 & _LOW ^ c[3] ^ key[1], a & _LOW]
        key = [key[0] + 0x9E3779B9 & _LOW, key[1] + 0xBB67AE85 & _LOW]
    return c
