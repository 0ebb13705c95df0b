"""Facts that separately deployed programs must agree on. Standard library only."""
