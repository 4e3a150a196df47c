"""Checks of the arguments that the studies of soft labels share, before anything is trained."""

from collections.abc import Collection, Sequence

from experiments.noisy_labels import check_choice


def check_comparison(
    per_class: Sequence[int],
    rows: Sequence[str],
    learning_rates: Sequence[float],
    known_rows: Collection[str],
) -> None:
    """Raises ValueError unless there is something to compare, known and named once."""
    choices = {"per_class": per_class, "rows": rows, "learning_rates": learning_rates}
    for name, values in choices.items():
        check_choice(name, values)
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must not name anything twice, got {values}.")
    unknown = [row for row in rows if row not in known_rows]
    if unknown:
        raise ValueError(f"rows: {', '.join(unknown)} are none of {', '.join(known_rows)}.")
    if min(learning_rates) <= 0:
        raise ValueError(f"learning_rates must be above 0, got {learning_rates}.")


def check_temperature(temperature: float) -> None:
    """Raises ValueError for a divergence that no temperature can have."""
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}.")


def check_least(least: float, **values: float) -> None:
    """Raises ValueError for a value below the least one, by its name."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")
