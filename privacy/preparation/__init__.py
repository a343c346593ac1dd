"""Rows are read, checked against their contract and scaled by public ranges at their owner."""
