"""More small tables with several classes: optdigits, segment, vehicle, glass and shuttle.

Read and scaled as those of `lnl_jax.data.tables`. Segment, vehicle and glass have no official
parts: where the file has no ``x_test``, a fifth of each class, drawn once and for all, is for
testing.
"""

import os

from lnl_jax.data.dataset import Splits
from lnl_jax.data.tables import DIGITS, OpenMLTable, load_table

SEGMENTS = ("brickface", "cement", "foliage", "grass", "path", "sky", "window")
VEHICLES = ("bus", "opel", "saab", "van")
GLASSES = (
    *("build wind float", "build wind non-float", "containers"),
    *("headlamps", "tableware", "vehic wind float"),
)
SHUTTLE_CODES = ("1", "2", "3", "4", "5", "6", "7")
FLOWS = ("Rad Flow", "Fpv Close", "Fpv Open", "High", "Bypass", "Bpv Close", "Bpv Open")


def optdigits(data_dir: str | os.PathLike | None = None) -> Splits:
    """Optical recognition of digits: 3,823 and 1,797 digits as 8 x 8 counts of dark pixels.

    The official parts, other writers in each. OpenML has no split; the first 3,823 rows are for
    training.

    Args:
        data_dir: a folder that may hold ``optdigits.npz``; None, or a folder without it, asks
            OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 64]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Kaynak, "Methods of Combining Multiple Classifiers and Their Applications to Handwritten
        Digit Recognition" (MSc thesis, Boğaziçi University, 1995).
    """
    return load_table(OpenMLTable("optdigits", 28, 64, (3_823, 1_797), DIGITS, DIGITS), data_dir)


def segment(data_dir: str | os.PathLike | None = None) -> Splits:
    """Image segmentation: 2,310 patches of outdoor pictures as 19 features; 7 classes.

    No official parts.

    Args:
        data_dir: a folder that may hold ``segment.npz``; None, or a folder without it, asks
            OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 19]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Michie, Spiegelhalter and Taylor (editors), "Machine Learning, Neural and Statistical
        Classification" (1994), Section 9.3.
    """
    return load_table(OpenMLTable("segment", 36, 19, (2_310, 0), SEGMENTS, SEGMENTS), data_dir)


def vehicle(data_dir: str | os.PathLike | None = None) -> Splits:
    """Vehicle silhouettes: 846 outlines of 4 vehicles as 18 features.

    No official parts.

    Args:
        data_dir: a folder that may hold ``vehicle.npz``; None, or a folder without it, asks
            OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 18]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Michie, Spiegelhalter and Taylor (editors), "Machine Learning, Neural and Statistical
        Classification" (1994), Section 9.3.
    """
    return load_table(OpenMLTable("vehicle", 54, 18, (846, 0), VEHICLES, VEHICLES), data_dir)


def glass(data_dir: str | os.PathLike | None = None) -> Splits:
    """Glass identification: 214 pieces of 6 kinds of glass as 9 contents of oxides and such.

    No official parts.

    Args:
        data_dir: a folder that may hold ``glass.npz``; None, or a folder without it, asks
            OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 9]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Evett and Spiehler, "Rule Induction in Forensic Science" (KBS in Government, 1987).
    """
    return load_table(OpenMLTable("glass", 41, 9, (214, 0), GLASSES, GLASSES), data_dir)


def shuttle(data_dir: str | os.PathLike | None = None) -> Splits:
    """Space shuttle: 43,500 and 14,500 readings of 9 sensors; 7 states, of which 79% are one.

    The official parts. The rarest class has 6 training rows. OpenML has no split; the first 43,500
    rows are for training.

    Args:
        data_dir: a folder that may hold ``shuttle.npz``; None, or a folder without it, asks
            OpenML.

    Returns:
        `Splits` with ``x``, float32, ``[N, 9]``.

    Raises:
        FileNotFoundError: if it is nowhere and cannot be downloaded; says what can be done.
        ValueError: if a file does not hold what it should.

    References:
        Michie, Spiegelhalter and Taylor (editors), "Machine Learning, Neural and Statistical
        Classification" (1994), Section 9.3.
    """
    return load_table(
        OpenMLTable("shuttle", 40685, 9, (43_500, 14_500), SHUTTLE_CODES, FLOWS), data_dir
    )
