"""What placement costs on recorded spot markets, beside what others cost: python -m benchmarks.policy --traces DIR."""
