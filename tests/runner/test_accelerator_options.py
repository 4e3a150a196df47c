"""Options for a second start and a look inside: kept programs, and traces."""

import json
import os
import warnings

import jax
import jax.numpy as jnp
import pytest

from lnl_jax import runner
from lnl_jax.runner import compilation_cache, profiling
from lnl_jax.runner.compilation_cache import cache_folder, kept_programs


def compiling(*, epochs: int = 3, factor: float = 2.0):
    """Compiles a program that no other test has."""
    run = jax.jit(lambda x: jnp.sin(factor * x).sum())
    for epoch in range(1, epochs + 1):
        with jax.profiler.TraceAnnotation(f"epoch {epoch}"):
            value = float(run(jnp.arange(5.0)))
        yield {"epoch": epoch, "method": "a", "loss": value}
        yield {"epoch": epoch, "method": "b", "loss": value}


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compilation_cache, "SECONDS", 0.0)

    def run(*words):
        jax.clear_caches()
        words = ["--exp", "compiling", *words, "--results_dir", str(tmp_path / "results")]
        code = runner.main({"compiling": compiling}, argv=words)
        return code, *capsys.readouterr()

    return run


def test_programs_are_kept_where_they_are_asked_to_be_and_settings_are_as_before(command, tmp_path):
    before = jax.config.jax_compilation_cache_dir
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    folder = tmp_path / "programs"
    assert command("--factor", "3", "--compilation_cache", str(folder))[0] == 0
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert kept
    # The second start takes them from there, and one that cannot be read is no trouble.
    for name in kept:
        (folder / name).write_bytes(b"broken")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out, err = command("--factor", "3", "--force", "--compilation_cache", str(folder))
    assert (code, err) == (0, "")
    assert "compilation" not in out
    assert jax.config.jax_compilation_cache_dir == before
    assert jax.config.jax_persistent_cache_min_compile_time_secs == seconds


def test_without_a_choice_a_folder_that_was_set_stays_and_else_it_is_the_users(
    monkeypatch, tmp_path
):
    with kept_programs() as folder:
        assert str(folder) == jax.config.jax_compilation_cache_dir
    before = jax.config.jax_compilation_cache_dir
    cache_folder.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        with kept_programs() as folder:
            assert folder == cache_folder() == tmp_path.joinpath(*folder.parts[-3:])
            assert folder.parts[-3:-1] == ("lnl_jax", "programs")
            assert jax.__version__ in folder.name
            assert folder.is_dir()
        assert jax.config.jax_compilation_cache_dir is None
        with kept_programs("none") as folder:
            assert folder is None
    finally:
        cache_folder.cache_clear()
        jax.config.update("jax_compilation_cache_dir", before)


def test_none_keeps_nothing_even_where_a_folder_was_set():
    with kept_programs("none"):
        assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command("--compilation_cache", str(tmp_path / "file"))
    assert code == 2
    assert err.startswith("error: --compilation_cache")
    assert err.count("\n") == 1


def test_old_programs_are_deleted_and_new_ones_are_not(tmp_path):
    import os
    import time

    for name, days in {"old": 61, "new": 1}.items():
        (tmp_path / name).write_text("")
        then = time.time() - days * 24 * 3600
        os.utime(tmp_path / name, (then, then))
    compilation_cache.drop_old_entries(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["new"]


def test_a_trace_is_of_as_many_epochs_as_are_asked_for_and_not_of_the_first(
    command, tmp_path, monkeypatch
):
    during = []
    start, stop = jax.profiler.start_trace, jax.profiler.stop_trace
    monkeypatch.setattr(
        jax.profiler, "start_trace", lambda folder: (during.append("start"), start(folder))
    )
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: (during.append("stop"), stop()))
    inner = compiling

    def watched(*, epochs: int = 4):
        for row in inner(epochs=epochs):
            during.append((row["epoch"], row["method"]))
            yield row

    results = tmp_path / "results"
    words = ["--exp", "watched", "--profile", "1", "--results_dir", str(results)]
    assert runner.main({"watched": watched}, argv=words) == 0
    assert during == [
        *[(1, "a"), "start", (1, "b"), (2, "a"), "stop", (2, "b")],
        *[(epoch, method) for epoch in (3, 4) for method in "ab"],
    ]
    (run,) = results.glob("watched/*")
    assert json.loads((run / "summary.json").read_text())["last"]["epoch"] == 4
    assert list((run / profiling.FOLDER).glob("plugins/profile/*/*.xplane.pb"))


def test_a_single_epoch_is_traced_from_the_start(command, tmp_path):
    code, out, _ = command("--epochs", "1", "--profile", "5")
    assert code == 0
    assert "profile: profile" in out
    assert "the trace holds none" not in out
    (trace,) = (tmp_path / "results").glob(f"compiling/*/{profiling.FOLDER}/**/*.xplane.pb")
    assert b"epoch 1" in trace.read_bytes()


def test_a_trace_ends_with_the_study_and_is_of_whole_numbers(command, tmp_path, capsys):
    def summed_up(*, epochs: int = 3):
        yield {"epoch": epochs}

    words = ["--exp", "summed_up", "--profile", "2", "--results_dir", str(tmp_path)]
    assert runner.main({"summed_up": summed_up}, argv=words) == 0
    assert "no epoch came after the first one" in capsys.readouterr().out
    code, out, _ = command("--epochs", "2", "--profile", "5")
    assert code == 0
    assert "the trace holds none" not in out
    for wrong in ("0", "-1", "x"):
        code, _, err = command("--profile", wrong)
        assert code == 2
        assert "--profile" in err
    jax.profiler.start_trace(tmp_path / "free")
    jax.profiler.stop_trace()


def test_a_note_is_said_and_not_written(tmp_path, capsys):
    def noted(*, epochs: int = 1):
        yield runner.Note("about 1.2 GB on the device")
        yield {"epoch": 1}

    words = ["--exp", "noted", "--results_dir", str(tmp_path)]
    assert runner.main({"noted": noted}, argv=words) == 0
    assert "\nabout 1.2 GB on the device\n" in capsys.readouterr().out
    (rows,) = tmp_path.glob("noted/*/metrics.jsonl")
    assert rows.read_text().count("\n") == 1


def test_deterministic_asks_for_one_order_of_sums_before_a_device_starts(command, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    assert command("--epochs", "1", "--deterministic")[0] == 0
    flags = os.environ["XLA_FLAGS"]
    assert flags == "--xla_cpu_enable_fast_math=false --xla_gpu_deterministic_ops=true"
    assert command("--epochs", "2", "--deterministic")[0] == 0
    assert os.environ["XLA_FLAGS"] == flags
