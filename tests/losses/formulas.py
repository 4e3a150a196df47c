"""The inputs of golden values: numbers that a formula gives."""

import numpy as np


def waves(rows, columns, phase, scale=1.0):
    """``scale * sin(1.7 i + 0.9 j + phase)``."""
    i, j = np.arange(rows)[:, None], np.arange(columns)
    return scale * np.sin(1.7 * i + 0.9 * j + phase)
