"""What `benchmarks.checkpoint` is made of: a training, the ways to save it, and the process that times them."""
