"""Bugs in where tensors live and who shares their memory: one per file."""
