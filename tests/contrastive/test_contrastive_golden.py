"""Eight steps of the official iSogCLR, LibAUC 2.0.1, SogCLR and FastCLIP, run by their own code.

Left out is what their bugs make of it: temperatures along the columns (official v2) and the
gradients of a global temperature (LibAUC's, with which it can only fall, and FastCLIP's, which has
one part twice). What they do otherwise is a function of ours or one that is passed in.
"""

import functools
import json
import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lnl_jax import contrastive

FOLDER = Path(__file__).parents[1] / "golden" / "isogclr"
NUM_EXAMPLES = 20
# An estimator and a rule for first visits.
OFFICIAL = (contrastive.raw_similarity, contrastive.start_from_zero)
OFFICIAL_BIMODAL = (contrastive.difference_with_diagonal, contrastive.start_from_zero)
OFFICIAL_MOCO = (contrastive.difference_with_positive, contrastive.start_from_zero)
LIBAUC = (contrastive.raw_similarity, contrastive.restart_batch)
LIBAUC_BIMODAL = (contrastive.difference_to_positive, contrastive.restart_batch)
FASTCLIP = (contrastive.difference_to_positive, contrastive.restart_example)


def restart_and_floor(log_u, log_inner):
    """LibAUC's guard against underflow, an average of at least 1e-20, where gamma is 0.6."""
    started = contrastive.restart_batch(log_u, log_inner)
    new = 0.6 * jnp.exp(log_inner)
    low = 0.4 * jnp.exp(started) + new < 1e-20
    return jnp.where(low, jnp.log((1e-20 - jnp.where(low, new, 0)) / 0.4), started)


def guarded(statistics):
    """FastCLIP's guard: 1e-14 is added to the average, and as well to what it is of."""
    estimate = contrastive.difference_to_positive(statistics)
    return estimate._replace(log_inner=jnp.logaddexp(estimate.log_inner, math.log(1e-14)))


LIBAUC_FLOORED = (contrastive.difference_to_positive, restart_and_floor)

UNIMODAL = {
    "off_uni_isogclr_v1_ep0": OFFICIAL,
    "off_uni_isogclr_v1_ep1": OFFICIAL,
    "off_uni_isogclr_v1_clamp": OFFICIAL,
    "off_uni_sogclr": OFFICIAL,
    "libauc_uni_isogclr_const": LIBAUC,
    "libauc_uni_isogclr_cosine": LIBAUC,
    "libauc_uni_sogclr_const": LIBAUC,
    "sogclr_repo_uni": LIBAUC,
}
# With examples twice in a batch, of which the last is stored: a matter of who writes the table.
DUPLICATES = "off_uni_isogclr_dup"
# What the loss of the file is of ours, and the functions that make it.
BIMODAL = {
    "off_bi_isogclr_const": (1.0, OFFICIAL_BIMODAL),
    "off_bi_isogclr_cosine": (1.0, OFFICIAL_BIMODAL),
    "off_bi_isogclr_exp": (1.0, OFFICIAL_BIMODAL),
    "off_bi_isogclr_tau001_rho6": (1.0, OFFICIAL_BIMODAL),
    "off_bi_sogclr": (1.0, OFFICIAL_BIMODAL),
    # A sum over the seven negatives, halved.
    "libauc_bi_isogclr_const": (3.5, LIBAUC_BIMODAL),
    "libauc_bi_isogclr_tau001": (3.5, LIBAUC_FLOORED),
    "libauc_bi_sogclr_const": (3.5, LIBAUC_BIMODAL),
    "libauc_bi_sogclr_cosine": (3.5, LIBAUC_BIMODAL),
    # The embeddings' gradient, with the factor of the temperature.
    "libauc_bi_v3_globallearn": (3.5 * 0.05, LIBAUC_BIMODAL),
    # Without it.
    "fastclip_v0v1": (0.5 / 0.07, FASTCLIP),
    "fastclip_v3": (0.5, FASTCLIP),
    # Of two ranks with four pairs each, averaged.
    "fastclip_v3_2rank": (0.5, FASTCLIP),
}
SEEDS = [
    pytest.param("f64_s0"),
    *(pytest.param(seed, marks=pytest.mark.slow) for seed in ("f64_s1", "f32_s0")),
]


class Trajectory:
    """A file, and the state that our functions make of its inputs."""

    def __init__(self, name, seed):
        with np.load(FOLDER / f"{name}.npz") as file:
            inputs = "f64" + seed[3:]
            # The single-precision run has the inputs of the other.
            parts = {key: file[key] for key in file.files if key.startswith((inputs, seed))}
        self.file = {key[7:]: parts[key] for key in sorted(parts, key=lambda key: seed in key)}
        self.dtype = np.float32 if seed.startswith("f32") else np.float64
        self.config = json.loads(str(self.file["config"]))
        names = ("tau_init", "tau", "temperature", "T")
        start = next(self.config[name] for name in names if name in self.config)
        self.individual = bool({"state_tau", "state_tau1"} & self.file.keys())
        # The official SogCLR stores the sum of the estimates of the two views, not their mean.
        self.stores_sum = name == "off_uni_sogclr"
        filled = [np.full(NUM_EXAMPLES, x, self.dtype) for x in (start, -np.inf, 0)]
        self.tables = [contrastive.ContrastiveRows(*(part.copy() for part in filled)) for _ in "ab"]

    def input(self, name, step):
        return self.file[name][step].astype(self.dtype)

    def gamma(self, step):
        config = self.config
        if "gamma" in self.file:
            return self.file["gamma"][step]
        if config.get("gamma_schedule") == "cosine":
            minimum, end = config["gamma"], config["gamma_decay_epochs"]
            epoch = jnp.float64(step)
            return float(contrastive.cosine_gamma(epoch, minimum=minimum, decay_epochs=end))
        # Unimodal official code restarts everything in epoch 0.
        first = "uni" in config["case"] and config.get("epochs", [1] * 8)[step] == 0
        return 1.0 if first else config["gamma"]

    def rates(self, step):
        """What changes from step to step or from file to file: no reason to compile again."""
        config = self.config
        eta = config.get("eta_init", config.get("eta", 0.0))
        values = {
            "gamma": self.gamma(step),
            "rho": config.get("rho_init", config.get("rho", 0.0)),
            "step": self.file["extra_eta"][step] if "extra_eta" in self.file else eta,
            "momentum": config.get("beta_u", config.get("beta", 1.0)),
        }
        return {name: jnp.asarray(value, self.dtype) for name, value in values.items()}

    def bounds(self):
        """Of temperatures and their gradients, or None without temperatures to learn."""
        config = self.config
        clip = config.get("grad_clip", math.inf)
        return (config["tau_min"], config["tau_max"], clip) if self.individual else None

    def rows(self, which, index):
        return contrastive.ContrastiveRows(*(part[index] for part in self.tables[which]))

    def write(self, which, index, rows):
        if self.stores_sum:
            rows = rows._replace(log_u=rows.log_u + math.log(2))
        for part, new in zip(self.tables[which], rows, strict=True):
            part[index] = new

    def compare(self, step, which, suffix):
        """With the whole table of the file after the step."""
        table = self.tables[which]
        offset = self.file.get(f"state_b{suffix}", np.zeros((8, NUM_EXAMPLES)))[step]
        inner = self.state("s" + suffix, "u" + suffix)[step]
        self.close(np.exp(np.float64(table.log_u)), inner * np.exp(np.float64(offset)))
        if self.individual:
            self.close(table.temperature, self.state("tau" + suffix)[step])
            self.close(table.velocity, self.state("u_mom", "v" + suffix)[step])

    def state(self, *names):
        return next(self.file[f"state_{name}"] for name in names if f"state_{name}" in self.file)

    def close(self, actual, expected, rounding=0.0):
        single = self.dtype == np.float32
        rtol, atol = (1e-4, 1e-4) if single else (1e-6, 1e-7)
        atol = atol * np.abs(expected).max() + rounding
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def visit(statistics, rows, rates, functions, bounds):
    """The losses, and the rows after the step."""
    names = {"estimator": functions[0], "first_visit": functions[1]}
    if bounds is None:
        values, log_u, _ = contrastive.sogclr_from_statistics(
            statistics, rows.log_u, gamma=rates["gamma"], **names
        )
        return values, rows._replace(log_u=log_u)
    low, high, clip = bounds
    gamma, learnt = rates["gamma"], {name: rates[name] for name in ("rho", "step", "momentum")}
    temperatures = contrastive.Temperatures(**learnt, range=(low, high), clip=clip)
    values, rows, _ = contrastive.isogclr_from_statistics(
        statistics, rows, gamma=gamma, temperatures=temperatures, **names
    )
    return values, rows


@functools.partial(jax.jit, static_argnames=("functions", "bounds", "normalises"))
def unimodal_step(views, rows, rates, functions, bounds, normalises):
    def total(views):
        if normalises:
            views = views / jnp.linalg.norm(views, axis=-1, keepdims=True)
        tau = rows.temperature
        statistics = contrastive.contrastive_statistics(views, views, temperature=tau)
        values, new = visit(statistics, rows, rates, functions, bounds)
        return 2 * values.mean(), new

    return jax.value_and_grad(total, has_aux=True)(views)


@functools.partial(jax.jit, static_argnames=("functions", "bounds"))
def bimodal_step(pair, both_rows, rates, functions, bounds):
    def total(pair):
        means, new = [], []
        for queries, keys, rows in zip(pair, pair[::-1], both_rows, strict=True):
            tau = rows.temperature
            statistics = contrastive.contrastive_statistics(queries, keys, temperature=tau)
            values, after = visit(statistics, rows, rates, functions, bounds)
            means.append(values.mean())
            new.append(after)
        return sum(means), new

    return jax.grad(total, has_aux=True)(pair)


@functools.partial(jax.jit, static_argnames=("functions", "bounds"))
def queue_step(logits, rows, rates, functions, bounds):
    def total(logits):
        tau = rows.temperature
        statistics = contrastive.similarity_statistics(logits[:, 0], logits[:, 1:], temperature=tau)
        values, new = visit(statistics, rows, rates, functions, bounds)
        return values.mean(), new

    return jax.grad(total, has_aux=True)(logits)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        *(
            pytest.param(name, *seed.values, marks=seed.marks)
            for name in UNIMODAL
            for seed in SEEDS
        ),
        (DUPLICATES, "f64_s7"),
    ],
)
def test_unimodal(float64, name, seed):
    trajectory = Trajectory(name, seed)
    fixed = (UNIMODAL.get(name, OFFICIAL), trajectory.bounds(), not name.startswith("off"))
    for step, index in enumerate(trajectory.file["idx"]):
        rows, rates = trajectory.rows(0, index), trajectory.rates(step)
        views = trajectory.input("x", step)
        (value, rows), gradients = unimodal_step(views, rows, rates, *fixed)
        trajectory.write(0, index, rows)
        trajectory.compare(step, 0, "")
        trajectory.close(value, trajectory.file["loss"][step])
        for gradient, name in zip(gradients, ("grad_a", "grad_b"), strict=True):
            trajectory.close(gradient, trajectory.file[name][step])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", BIMODAL)
def test_bimodal(float64, name, seed):
    trajectory = Trajectory(name, seed)
    scale, functions = BIMODAL[name]
    indices = (trajectory.file["idx"], trajectory.file.get("idx2", trajectory.file["idx"]))
    # The official code adds the diagonal's weight, up to 1/8 in the mean, and takes it off again.
    # At a temperature of 0.01 there are gradients smaller than what that rounds off.
    rounding = np.finfo(trajectory.dtype).eps / 8
    for step in range(8):
        here = [index[step] for index in indices]
        rows = [trajectory.rows(which, here[which]) for which in range(2)]
        pair = tuple(trajectory.input("x", step))
        rates, bounds = trajectory.rates(step), trajectory.bounds()
        gradients, rows = bimodal_step(pair, rows, rates, functions, bounds)
        for which, name in enumerate(("grad_a", "grad_b")):
            trajectory.write(which, here[which], rows[which])
            trajectory.compare(step, which, str(which + 1))
            expected = trajectory.file[name][step]
            trajectory.close(scale * gradients[which], expected, rounding)


class AdamRows(NamedTuple):
    """Rows with one number more, as Adam needs it."""

    temperature: jax.Array
    log_u: jax.Array
    velocity: jax.Array
    second: jax.Array


def adam(rows, q, temperatures, *, decay, power):
    """FastCLIP-v2's update of the temperatures, in the place of `contrastive.temperature_step`."""
    momentum = temperatures.momentum
    velocity = (1 - momentum) * rows.velocity + momentum * q
    second = decay * rows.second + (1 - decay) * q * q
    first = velocity / (1 - (1 - momentum) ** power)
    scale = jnp.sqrt(second / (1 - decay**power)) + 1e-6
    moved = rows.temperature - temperatures.step * first / scale
    temperature = jnp.clip(moved, *temperatures.range)
    return rows._replace(temperature=temperature, velocity=velocity, second=second)


@jax.jit
def adam_step(pair, both_rows, gamma, momentum, decay, power):
    update = functools.partial(adam, decay=decay, power=power)
    learnt = contrastive.Temperatures(1.5, 0.0133, momentum, range=(0.01, 1.0), clip=5.0)
    settings = {"temperatures": learnt, "update": update, "estimator": guarded}

    def total(pair):
        means, new = [], []
        for queries, keys, rows in zip(pair, pair[::-1], both_rows, strict=True):
            values, after, _ = contrastive.isogclr(queries, keys, rows, gamma=gamma, **settings)
            # Without the factor of each temperature.
            means.append((values / rows.temperature).mean() / 2)
            new.append(after)
        return sum(means), new

    return jax.grad(total, has_aux=True)(pair)


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_another_optimiser_of_the_temperatures(float64, seed):
    trajectory = Trajectory("fastclip_v2", seed)
    zeros = np.zeros(NUM_EXAMPLES)
    tables = [AdamRows(*table, zeros.copy()) for table in trajectory.tables]
    for step in range(8):
        here = [trajectory.file[name][step] for name in ("idx", "idx2")]
        rows = [
            AdamRows(*(part[at] for part in table)) for table, at in zip(tables, here, strict=True)
        ]
        gamma = float(contrastive.cosine_gamma(jnp.float64(step), minimum=0.2, decay_epochs=4))
        momentum, decay = (0.1, 0.98) if step else (1.0, 0.0)
        pair = tuple(trajectory.input("x", step))
        gradients, rows = adam_step(pair, rows, gamma, momentum, decay, step + 1)
        for which, name in enumerate(("grad_a", "grad_b")):
            for part, new in zip(tables[which], rows[which], strict=True):
                part[here[which]] = new
            for state, part in (("tau", "temperature"), ("m", "velocity"), ("v", "second")):
                expected = trajectory.file[f"state_{state}{which + 1}"][step]
                trajectory.close(getattr(tables[which], part), expected)
            trajectory.close(gradients[which], trajectory.file[name][step])


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_logits_of_a_queue(float64, seed):
    trajectory = Trajectory("off_moco_isogclr", seed)
    for step, index in enumerate(trajectory.file["idx"]):
        logits, rates = trajectory.input("logits", step), trajectory.rates(step)
        rows, bounds = trajectory.rows(0, index), trajectory.bounds()
        gradient, rows = queue_step(logits, rows, rates, OFFICIAL_MOCO, bounds)
        trajectory.write(0, index, rows)
        trajectory.compare(step, 0, "")
        trajectory.close(gradient, trajectory.file["grad_logits"][step])


def test_simclr(float64):
    trajectory = Trajectory("off_uni_simclr", "f64_s0")

    @jax.value_and_grad
    def total(views):
        return contrastive.info_nce(views, views, temperature=0.1).mean() * 0.1 / 0.07

    value, gradients = jax.jit(total)(trajectory.input("x", 0))
    trajectory.close(value, trajectory.file["loss"][0])
    trajectory.close(gradients[0], trajectory.file["grad_a"][0])
    trajectory.close(gradients[1], trajectory.file["grad_b"][0])


def test_clip(float64):
    trajectory = Trajectory("off_bi_clip", "f64_s0")

    @jax.value_and_grad
    def total(pair):
        image = contrastive.info_nce(pair[0], pair[1], temperature=0.05)
        text = contrastive.info_nce(pair[1], pair[0], temperature=0.05)
        return 0.5 * (image + text).mean()

    value, gradients = jax.jit(total)(trajectory.input("x", 0))
    trajectory.close(value, trajectory.file["loss"][0])
    trajectory.close(gradients[0], trajectory.file["grad_a"][0])
    trajectory.close(gradients[1], trajectory.file["grad_b"][0])
