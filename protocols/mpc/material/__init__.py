"""Correlated randomness: each kind is one function, run on shares, on plaintexts (dealer) and on zeros (dry run)."""
