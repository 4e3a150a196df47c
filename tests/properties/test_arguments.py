"""Whatever is put in the place of an argument: an answer, or a `ValueError` that names one."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.properties.calls import CALLS
from tests.properties.ill_arguments import changed, changes_of, fault_of

PLACES = [
    (name, argument, change)
    for name, call in CALLS.items()
    for argument, value in call.arguments.items()
    for change in changes_of(argument, value)
]
ROOMS = sorted({name.partition(".")[0] for name in CALLS})
# Programs that are compiled for an argument of another form are not many, and no hang.
SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


def hold(place):
    """Raises where the function does something else with the argument."""
    name, argument, change = place
    call = CALLS[name]
    value = changed(call.arguments[argument], change)
    fault = fault_of(call, argument, value)
    assert not fault, f"{name}({argument}={change!r}): {fault}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_wrong_argument_gives_an_answer_or_a_value_error_that_names_one(room):
    @settings(max_examples=30, derandomize=True, **SETTINGS)
    @given(st.sampled_from([place for place in PLACES if place[0].startswith(f"{room}.")]))
    def run(place):
        hold(place)

    run()


@pytest.mark.slow
@pytest.mark.parametrize("room", ["label_models", "noise"])
def test_every_wrong_argument_of_a_room_that_compiles_nothing(room):
    faults = []
    for place in PLACES:
        if place[0].startswith(f"{room}."):
            try:
                hold(place)
            except AssertionError as error:
                faults.append(str(error))
    assert not faults
