"""The correct files and their promises: data, imported by nobody."""
