"""Constructs, one idea a file."""
