"""The catalogue of augmentation at work: the data sets it is measured on, and the records of what was measured."""
