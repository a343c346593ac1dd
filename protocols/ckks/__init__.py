"""CKKS: encrypted inference on a model that its owner keeps, for samples that the querier keeps."""
