"""The wire contract: generated code and its translation into our types."""
