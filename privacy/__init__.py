"""Statistics and preparation that protect people."""
