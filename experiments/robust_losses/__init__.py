"""Losses that withstand label noise, and robust optimisation over examples and groups."""
