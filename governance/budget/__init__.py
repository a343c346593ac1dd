"""What has been spent of a data set or model, and what may still be."""
