"""Identifiers of people between institutions: keyed pseudonyms and private intersections; values in, values out."""
