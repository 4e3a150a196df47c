"""Learning from imperfect labels in JAX."""

__version__ = "0.1.0"
