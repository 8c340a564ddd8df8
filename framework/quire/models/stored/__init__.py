"""Checkpoints that hold weights as integers: GPTQ, AWQ and compressed-tensors."""
