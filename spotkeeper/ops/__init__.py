"""The command line of people and runbooks."""
