"""Attacks on models, measured: what somebody who holds a model can tell about the people behind it."""
