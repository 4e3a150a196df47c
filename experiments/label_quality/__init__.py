"""Which labels are wrong, which examples matter, and what coarse labels still tell."""
