"""Linking identifiers with other institutions: keyed pseudonyms, and private intersections that align rows."""
