"""Secret-shared computation: links' use, correlated randomness, primitives, CrypTen adapter, training, evaluation, inference."""
