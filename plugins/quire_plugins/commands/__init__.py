"""Commands of the program `quire`, beside its runs."""
