"""Preparing an owner's rows in a confined process, and what is kept about it."""
