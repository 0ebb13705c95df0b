"""Documents, configuration and code agree with one another."""
