"""Techniques for tables; each row's result follows from the row's number, never from the size of a batch."""
