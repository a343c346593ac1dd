"""Lower bounds of what a mechanism gave away, measured on what it put out."""
