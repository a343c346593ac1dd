"""Recipes: declarative, deterministic transformations of a table at its owner, before anything of it is registered."""
