"""Bugs in beam search and speculative decoding: one per file."""
