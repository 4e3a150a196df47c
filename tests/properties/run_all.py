"""All properties on as many examples as are asked for.

python -m tests.properties.run_all [COUNT] [SEED]
"""

import collections
import sys
import time

import jax
import numpy as np
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from tests.properties import test_arguments, test_values


def properties(count: int, start: int = 0) -> dict[str, int | tuple[str, ...]]:
    """Three quarters of the examples are wrong arguments, one quarter is of values.

    Args:
        count: of the examples.
        start: the seed of what is drawn.

    Returns:
        How many examples there were, and what went wrong, a line each.
    """
    jax.config.update("jax_numpy_rank_promotion", "raise")
    faults, done = {}, collections.Counter()
    arguments = st.sampled_from(test_arguments.PLACES)
    names = sorted(test_values.DRAWN_CALLS)

    def note(what, function, *values):
        done[what] += 1
        try:
            function(*values)
        except Exception as error:
            faults.setdefault(str(error)[:400], f"{values[0]}: {type(error).__name__}")

    def drawn(examples, at):
        own = settings(max_examples=examples, phases=[Phase.generate], **test_arguments.SETTINGS)
        return lambda function: seed(start + at)(own(function))

    @drawn(count * 3 // 4, 0)
    @given(arguments)
    def of_arguments(place):
        note("arguments", test_arguments.hold, place)

    of_arguments()
    for at, name in enumerate(names):
        shape = test_values.shape_of(name)
        values, orders = test_values.numbers(shape), st.permutations(range(test_values.B))
        drawn(max(count // 4 // len(names), 1), at)(given(values, orders)(_holding(note, name)))()
    return {
        "arguments": done["arguments"],
        "values": done["values"],
        "faults": tuple(f"{where}: {what}" for what, where in faults.items()),
    }


def _holding(note, name):
    def of_values(values, order):
        note("values", test_values.hold, name, values, np.array(order))

    return of_values


def main() -> int:
    """Prints what went wrong, and the counts."""
    count, start = (int(word) for word in (*sys.argv[1:], *("20000", "0")[len(sys.argv) - 1 :]))
    began = time.perf_counter()
    found = properties(count, start)
    for fault in found["faults"]:
        print(" ".join(fault.split()))
    print(
        f"{found['arguments']} wrong arguments and {found['values']} examples of values: "
        f"{len(found['faults'])} faults, {time.perf_counter() - began:.0f} s"
    )
    return bool(found["faults"])


if __name__ == "__main__":
    sys.exit(main())
