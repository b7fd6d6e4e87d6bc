"""Functions that are compiled once, kept, and called by symbol."""
