"""Functions that are compiled once, cached, and called by symbol."""
