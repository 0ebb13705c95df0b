"""Whole runs: submitted as a user does, on the synthesized templates, to what the ledger says in the end."""
