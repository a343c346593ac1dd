"""Making people of a table alike: coarser values, fewer rows, and the search for the least loss that does it."""
