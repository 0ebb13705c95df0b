"""EC2 takes an instance back: recorded."""
