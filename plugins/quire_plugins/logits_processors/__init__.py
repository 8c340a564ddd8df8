"""Logits processors: penalties, biases and masks before the sampler."""
