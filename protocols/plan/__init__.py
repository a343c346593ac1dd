"""From a job to its plan: operations, correlated randomness, openings with recipients, rounds, payload bytes."""
