"""Encrypted inference under governance: what is published, for whom, and how much of it a researcher may learn."""
