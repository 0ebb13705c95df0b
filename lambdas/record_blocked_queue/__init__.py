"""Batch cannot place a job: recorded."""
