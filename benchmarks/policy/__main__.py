"""Measure placement on recorded spot markets: python -m benchmarks.policy --traces DIR [--json] [--write]."""

from benchmarks.policy.measure import main

if __name__ == "__main__":
    main()
