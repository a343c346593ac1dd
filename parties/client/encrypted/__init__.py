"""A researcher asks published models under encryption: her keys, her queries, and what comes back."""
