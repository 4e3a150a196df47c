"""The command line of the project's own studies, for tests in this process."""

from experiments import EXPERIMENTS, SWEEPS, is_generated
from lnl_jax import runner


def main(argv):
    """Carries out one command; the dicts are looked at when it is called."""
    return runner.main(EXPERIMENTS, SWEEPS, argv, is_generated=is_generated)
