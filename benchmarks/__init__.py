"""Scripts behind every number in the README. `make bench` runs them all; results are dated and kept in results/."""
