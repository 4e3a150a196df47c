import threading

import numpy as np
import pytest

from lnl_jax.data import batches, epoch_plan
from lnl_jax.data.streaming import fits_on_device, stream


def dataset(size):
    index = np.arange(100, 100 + size, dtype=np.int32)
    return {"image": np.arange(size * 12, dtype=np.uint8).reshape(size, 2, 2, 3), "index": index}


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize("num_threads", [0, 1, 8])
@pytest.mark.parametrize(("size", "batch_size"), [(50, 8), (24, 8), (3, 8)])
def test_the_batches_are_those_of_batches_in_the_same_order(num_threads, size, batch_size):
    rows = dataset(size)
    plan = epoch_plan(size, batch_size, np.random.default_rng((7, 2)))
    found = list(stream(rows, plan, num_threads=num_threads, buffer_size=3))
    assert_same(found, batches(rows, batch_size, np.random.default_rng((7, 2))))
    assert found[-1]["mask"].sum() == (size - 1) % batch_size + 1


def test_an_epoch_goes_on_with_the_rest_of_its_plan():
    rows = dataset(40)
    plan = epoch_plan(40, 8, np.random.default_rng((0, 5)))
    rest = {name: values[2:] for name, values in plan.items()}
    assert_same(stream(rows, rest), list(stream(rows, plan))[2:])


def test_only_the_rows_of_a_batch_are_read_from_a_memory_map(tmp_path):
    images = dataset(30)["image"]
    np.save(tmp_path / "images.npy", images)
    mapped = {"image": np.load(tmp_path / "images.npy", mmap_mode="r"), "index": np.arange(30)}
    plan = epoch_plan(30, 7, np.random.default_rng(0))
    assert_same(
        stream(mapped, plan), batches({**mapped, "image": images}, 7, np.random.default_rng(0))
    )


class Slow:
    """Rows that say which thread read them, and wait until the threads that there are do so."""

    def __init__(self, parties):
        self.barrier = threading.Barrier(parties)
        self.threads = set()

    def __getitem__(self, position):
        self.barrier.wait(timeout=20)
        self.threads.add(threading.get_ident())
        return position


def test_as_many_batches_as_there_are_threads_are_made_at_the_same_time():
    # With fewer threads the barrier would never open.
    rows = {"index": Slow(3)}
    found = list(stream(rows, epoch_plan(12, 2), num_threads=3, buffer_size=3))
    assert [batch["index"][0] for batch in found] == [0, 2, 4, 6, 8, 10]
    assert len(rows["index"].threads) == 3
    assert threading.get_ident() not in rows["index"].threads


def test_an_error_in_a_thread_reaches_the_caller():
    class Broken:
        def __getitem__(self, position):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(stream({"index": Broken()}, epoch_plan(4, 2)))


@pytest.mark.parametrize(("num_threads", "buffer_size"), [(-1, 4), (2, 0)])
def test_impossible_numbers_raise_before_the_first_batch(num_threads, buffer_size):
    with pytest.raises(ValueError, match=r"must be an integer from \d on, got"):
        stream(dataset(4), epoch_plan(4, 2), num_threads=num_threads, buffer_size=buffer_size)


class Device:
    def __init__(self, **stats):
        self.stats = stats

    def memory_stats(self):
        return self.stats or None


def test_a_data_set_fits_up_to_the_part_of_the_free_memory():
    rows = {"image": np.zeros((10, 30), np.uint8), "index": np.zeros(25, np.int32)}
    device = Device(bytes_limit=1000, bytes_in_use=200)
    assert fits_on_device(rows, device=device)
    assert not fits_on_device(rows, fraction=0.49, device=device)
    assert not fits_on_device(rows, device=Device(bytes_limit=1000, bytes_in_use=202))
    assert fits_on_device(rows, fraction=1.0, device=Device(bytes_limit=400))


def test_a_device_that_does_not_know_its_memory_is_taken_to_have_enough():
    assert fits_on_device({"x": np.zeros(1000)}, device=Device())
    assert fits_on_device({"x": np.zeros(1000)}, device=Device(bytes_in_use=5))


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5, float("nan")])
def test_a_fraction_out_of_range_raises(fraction):
    with pytest.raises(ValueError, match=f"at most 1, got {fraction}"):
        fits_on_device({}, fraction=fraction)
