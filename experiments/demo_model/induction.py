"""Start attention near induction heads, so that copying and recall need not be discovered.

A transformer learns to copy when heads that look at the previous token meet heads that look for where the
current token stood before (Olsson et al., In-context Learning and Induction Heads, 2022). From random
weights that meeting takes more tokens than this run has. As in mimetic initialization (Trockman and Kolter,
2023) the weights begin in that pattern, roughly; training refines, moves or forgets it.

    layer 0   head i attends i + 1 tokens back, i < 4, and writes what it reads into the residual stream
    layer 1   key-value head g matches the token g back with the token g + 1 back of earlier places, and its
              heads copy the token that stands there: induction (g = 0), and the same over g tokens that
              stand between a key and its value
"""

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import LlamaForCausalLM

OFFSETS = (1, 2, 3, 4)  # of heads 0 to 3 of layer 0; heads 2i and 2i + 1 share the key-value head i
FAST_PAIRS = 6  # rotary pairs that tell neighbouring positions apart
SPACE = "Ġ"  # how byte-level BPE writes a leading space
CONSTANT = 0.32  # the embeddings' common coordinate 0: a query and key that depend on the position only


@torch.no_grad()
def start_near_induction(model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Overwrite some of the weights of layers 0 and 1, and of the embeddings."""
    width, size = model.config.hidden_size, model.config.head_dim
    embeddings = model.get_input_embeddings().weight
    # A word with and without its space are two tokens: alike, so that one can be matched with the other and
    # copied as the other, and an offset that all pairs share apart.
    offset = 0.02 * torch.randn(width)
    vocabulary = tokenizer.get_vocab()
    for token, index in sorted(vocabulary.items()):
        spaced = vocabulary.get(f"{SPACE}{token}")
        if spaced is not None:
            embeddings[index] = 0.9 * embeddings[spaced] + 0.3 * embeddings[index] + offset
    embeddings[:, 0] = CONSTANT
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.mul_(0.2)  # random features would drown what the heads write
    # Subspaces that don't overlap: one read by key-value heads 0 and 1 of layer 0, four written by its heads.
    reader, *writers = _orthonormal_rows(5 * size, width).split(size)

    pair = torch.arange(FAST_PAIRS)
    angle = 10_000.0 ** (-2 * pair / size)
    for head, distance in enumerate(OFFSETS):
        group, rows = head // 2, slice(head * size, (head + 1) * size)
        key_rows = slice(group * size, (group + 1) * size)
        # Column 0 reads the constant; turning the query back by `distance` positions makes the score of
        # d tokens back peak at d = distance: sum over pairs of cos((d - distance) * angle).
        first.q_proj.weight[head * size + pair, 0] = 0.45 * torch.cos(distance * angle)
        first.q_proj.weight[head * size + size // 2 + pair, 0] = -0.45 * torch.sin(distance * angle)
        first.k_proj.weight[group * size + pair, 0] = 0.45
        first.v_proj.weight[key_rows] = reader
        first.o_proj.weight[:, rows] = 0.15 * writers[head].T

    # Rotation hardly moves the slow pairs, so that what is matched there matches at any distance.
    slow = torch.cat([torch.arange(size // 4, size // 2), torch.arange(3 * size // 4, size)])
    for group, (asked, held) in enumerate(zip((reader, *writers), writers, strict=False)):
        copied = _orthonormal_rows(size, width)
        chosen = torch.randperm(size)[: len(slow)]  # what of the token a key holds
        second.k_proj.weight[group * size + slow] = 2.5 * held[chosen]
        second.v_proj.weight[group * size : (group + 1) * size] = copied
        for head in (2 * group, 2 * group + 1):
            second.q_proj.weight[head * size + slow] = 2.5 * asked[chosen]
            second.o_proj.weight[:, head * size : (head + 1) * size] = 0.3 * copied.T


def _orthonormal_rows(rows: int, width: int) -> Tensor:
    """(rows, width), random, and blind to the constant coordinate."""
    basis = torch.linalg.qr(torch.randn(width - 1, rows)).Q.T
    return torch.cat([torch.zeros(rows, 1), basis], dim=1)
