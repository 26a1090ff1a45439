"""The judge: one file against its promises, in another process."""
