"""One static HTML page of results: python experiments/report.py FOLDER... --out page.html."""

import sys
from collections.abc import Sequence

from lnl_jax._extras import MissingExtra, require


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out one command; returns the exit code."""
    try:
        require("flax", "matplotlib", "rich")
    except MissingExtra as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from experiments.interrupts import readers_may_leave
    from experiments.results_report import carry_out

    with readers_may_leave():
        return carry_out(sys.argv[1:] if argv is None else list(argv))


if __name__ == "__main__":
    sys.exit(main())
