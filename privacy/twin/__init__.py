"""Numerical twins: what the protocols compute, in the clear and fast, for forecasts, benchmarks and tests."""
