"""What every kind of noise asks of its arguments."""

from lnl_jax._host_arguments import check_integer, is_finite_number

# A matrix of more would take 8 GB.
MOST_CLASSES = 1 << 15


def check_num_classes(num_classes: int) -> None:
    """Raises ValueError unless there are at least two classes."""
    check_integer("num_classes", num_classes, at_least=2, at_most=MOST_CLASSES)


def check_rate(rate: float) -> None:
    """Raises ValueError unless the rate is a fraction."""
    if not is_finite_number(rate) or not 0 <= rate <= 1:
        raise ValueError(f"rate must be from 0 to 1, got {rate!r}.")
