"""Pairs of a token and an expert in the experts' order, and a token's results summed."""

from torch import Tensor

from quire_kernels.reference.precision import accumulate_dtype


def sort_pairs(chosen_Tk: Tensor, tokens_P: Tensor, places_Tk: Tensor, ends_X: Tensor) -> None:
    """Writes the token of each place, the place of each pair, and the place after each expert's last pair."""
    per_token = chosen_Tk.shape[1]
    pairs = sorted((expert, pair) for pair, expert in enumerate(chosen_Tk.flatten().tolist()))
    for place, (_, pair) in enumerate(pairs):
        tokens_P[place] = pair // per_token
        places_Tk[pair // per_token, pair % per_token] = place
    for expert in range(len(ends_X)):
        ends_X[expert] = sum(other <= expert for other, _ in pairs)


def sum_pairs(y_PE: Tensor, places_Tk: Tensor, shares_Tk: Tensor, out_TE: Tensor) -> None:
    """out[t] = the sum over i of shares[t, i] * y[places[t, i]]."""
    dtype = accumulate_dtype(y_PE)
    y_TkE = y_PE.to(dtype)[places_Tk.long()]
    out_TE.copy_((shares_Tk.to(dtype)[:, :, None] * y_TkE).sum(dim=1))
