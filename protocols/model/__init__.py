"""Models as data: `ModelSpec`, export from torch, validation, weights, plaintext reference."""
