"""Every five minutes: reconciled."""
