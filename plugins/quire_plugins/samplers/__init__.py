"""Samplers: logits in, one token a row out."""
