"""Encrypted inference at the owner of published models: enquiries, uploads, evaluators and the answers' way out."""
