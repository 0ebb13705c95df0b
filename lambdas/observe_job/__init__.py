"""A Batch job changed its state: observed."""
