"""Who may compute what, and what leaves."""
