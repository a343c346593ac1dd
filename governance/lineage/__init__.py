"""Lineage: what came of which data, by whose consent; what a withdrawn consent ends; names and cards of model versions."""
