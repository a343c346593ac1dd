"""The audit log: entries, Merkle tree, checkpoints, cosignatures; values in, values out."""
