"""Contrastive losses with individualized temperatures."""
