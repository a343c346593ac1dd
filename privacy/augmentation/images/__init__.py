"""Techniques for images: (images, channels, height, width) float64 in [-1, 1], -1 being black."""
