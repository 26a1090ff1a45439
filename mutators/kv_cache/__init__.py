"""Bugs in kv cache: one per file."""
