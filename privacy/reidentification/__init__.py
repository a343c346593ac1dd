"""Whom a table gives away: direct identifiers in it, how unique its rows are, and what preparation changes about both."""
