"""Runs experiments and sweeps: python experiments/run.py --list."""

import sys

from lnl_jax._extras import MissingExtra
from lnl_jax._signals import end_at_a_signal

if __name__ == "__main__":
    end_at_a_signal()
    try:
        from experiments import EXPERIMENTS, SWEEPS, is_generated
        from lnl_jax.runner import main
    except MissingExtra as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(EXPERIMENTS, SWEEPS, is_generated=is_generated))
