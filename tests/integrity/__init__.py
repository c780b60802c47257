"""Attacks on the pure core: hashes, trees, proofs, notes, checkpoints."""
