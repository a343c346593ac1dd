"""Protocols on shares: products, truncation, sign, sigmoid, refresh. Each states rounds, bytes and leakage."""
