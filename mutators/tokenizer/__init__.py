"""Bugs in tokenizers and detokenizers: one per file."""
