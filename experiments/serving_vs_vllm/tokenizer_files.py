"""A tokenizer for a checkpoint of random weights: both servers turn token ids into text, as they would for a
real model.
"""

from __future__ import annotations

import random
from pathlib import Path


def write_tokenizer(directory: Path, vocab_size: int) -> None:
    """Byte-level BPE whose merges are drawn at random: every token has a text of some letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    draw = random.Random(0)
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = set(pieces)
    merges: list[tuple[str, str]] = []
    while len(pieces) < vocab_size:
        pair = draw.choice(pieces), draw.choice(pieces)
        piece = "".join(pair)
        if len(piece) <= 12 and piece not in known:
            known.add(piece)
            pieces.append(piece)
            merges.append(pair)
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
