"""What each protection does to an attack and to the intended analysis, each on and off, on rows in the clear."""
