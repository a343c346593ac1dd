"""Techniques for texts; none begins before identifiers are removed."""
