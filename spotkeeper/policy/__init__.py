"""Pure decisions: every fact is an argument. No clock, no randomness, no input or output."""
