"""Runs experiments and sweeps: python experiments/run.py --list."""

import sys
from collections.abc import Sequence

from lnl_jax._extras import MissingExtra, require


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out one command; returns the exit code."""
    try:
        # Asked for before the first training, not when its figures are drawn.
        require("flax", "orbax", "matplotlib", "rich")
    except MissingExtra as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from experiments.interrupts import readers_may_leave
    from experiments.runner import carry_out

    with readers_may_leave():
        return carry_out(sys.argv[1:] if argv is None else list(argv))


if __name__ == "__main__":
    sys.exit(main())
