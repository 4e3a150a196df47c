"""One static HTML page of results: python experiments/report.py FOLDER... --out page.html."""

import sys

from lnl_jax.runner import write_report

if __name__ == "__main__":
    sys.exit(write_report())
