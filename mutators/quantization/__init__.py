"""Bugs in quantized weights: one per file."""
