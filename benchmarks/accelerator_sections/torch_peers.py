"""PyTorch's side of sections (b) to (e), on the same device and of the same sizes.

Only what PyTorch itself offers: its own losses, functional transforms and compiler.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from accelerator_sections.bench import Bench, reason

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def wait(_: Any = None) -> None:
    """For all that was begun on the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def compiler(tiny: bool) -> str:
    """The tiny form only checks that programs are captured: C++ takes long to compile."""
    return "aot_eager" if tiny else "inductor"


def timed(call: Callable[[], Any], seconds: float) -> dict[str, float | int]:
    """Median and fastest of rounds of a call, as on the side of JAX; two calls warm up."""
    for _ in range(2):
        call()
    wait()
    start = time.perf_counter()
    call()
    wait()
    once = max(time.perf_counter() - start, 1e-7)
    many = min(max(round(0.01 / once), 1), 50)
    taken = []
    for _ in range(min(max(int(seconds / (many * once)), 3), 25)):
        start = time.perf_counter()
        for _ in range(many):
            call()
        wait()
        taken.append((time.perf_counter() - start) / many)
    taken.sort()
    return {"seconds": taken[len(taken) // 2], "fastest": taken[0], "rounds": len(taken)}


def attempt(bench: Bench, row: dict, measure: Callable[[], dict]) -> None:
    """A row with what was measured, or with why not; memory of an earlier one is given back."""
    torch.compiler.reset()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    try:
        found = measure()
    except Exception as error:  # noqa: BLE001
        found = {"why": reason(error)}
    if DEVICE.type == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
    bench.row(**row, **found, seconds_with_compiling=time.perf_counter() - start)


def losses(bench: Bench) -> None:
    """Cross-entropy, eager and compiled."""
    shapes = ((64, 10), (16, 300)) if bench.tiny else ((8192, 1000), (4096, 50257))
    for shape in shapes:
        for dtype in DTYPES:
            for form in ("eager", "compiled"):
                if bench.has_time(1, f"{shape} {dtype} {form}"):
                    row = {"loss": "cross_entropy", "shape": shape, "dtype": dtype, "form": form}
                    attempt(bench, row, functools.partial(loss_step, bench, shape, dtype, form))


def loss_step(bench: Bench, shape: tuple[int, int], dtype: str, form: str) -> dict:
    """Seconds of value and gradient, over sets that no cache holds together."""
    sets = []
    count = int(min(max(2**28 // (shape[0] * shape[1] * DTYPES[dtype].itemsize * 2), 2), 8))
    for _ in range(count):
        scores = (3 * torch.randn(shape, device=DEVICE)).to(DTYPES[dtype]).requires_grad_()
        sets.append((scores, torch.randint(shape[1], shape[:1], device=DEVICE)))
    loss = functional.cross_entropy
    if form == "compiled":
        loss = torch.compile(loss, backend=compiler(bench.tiny))
    number = [0]

    def call():
        number[0] += 1
        scores, labels = sets[number[0] % count]
        return torch.autograd.grad(loss(scores, labels), scores)

    return timed(call, 0.05 if bench.tiny else 0.5)


def contrastive(bench: Bench) -> None:
    """CLIP's loss of both directions with all pairs at once, eager and compiled."""
    sizes = (32,) if bench.tiny else (8192, 16384, 32768)
    for size in sizes:
        for dtype in DTYPES:
            for form in ("eager", "compiled"):
                if bench.has_time(1, f"{size} {dtype} {form}"):
                    row = {"loss": "clip", "batch": size, "dtype": dtype, "form": form}
                    attempt(bench, row, functools.partial(clip_step, bench, size, dtype, form))


def clip_step(bench: Bench, size: int, dtype: str, form: str) -> dict:
    """Seconds of value and both gradients."""
    width = 16 if bench.tiny else 512
    pair = [
        functional.normalize(torch.randn(size, width, device=DEVICE), dim=-1)
        .to(DTYPES[dtype])
        .requires_grad_()
        for _ in range(2)
    ]
    places = torch.arange(size, device=DEVICE)

    def clip(images, texts):
        scores = images @ texts.T / 0.07
        both = functional.cross_entropy(scores, places) + functional.cross_entropy(scores.T, places)
        return 0.5 * both

    loss = torch.compile(clip, backend=compiler(bench.tiny)) if form == "compiled" else clip
    return timed(lambda: torch.autograd.grad(loss(*pair), pair), 0.05 if bench.tiny else 1)


def letter(bench: Bench) -> None:
    """The tabular network, one training at a time and many by `torch.func.vmap`."""
    runs = 6 if bench.tiny else 315
    attempt(bench, {"way": "one at a time", "runs": 1}, functools.partial(one_run, bench))
    for form in ("eager", "compiled"):
        if bench.has_time(1, f"vmap {form}"):
            row = {"way": f"vmap, {form}", "runs": runs}
            attempt(bench, row, functools.partial(many_runs, bench, runs, form))


def perceptron() -> nn.Module:
    """The network of the table: 16-16-16-26, with tanh."""
    layers = (nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 26))
    return nn.Sequential(*layers).to(DEVICE)


def table(bench: Bench) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and labels."""
    size = 260 if bench.tiny else 12_000
    return torch.rand(size, 16, device=DEVICE), torch.randint(26, (size,), device=DEVICE)


def one_run(bench: Bench) -> dict:
    """Steps per second of one training in eager mode."""
    model, (x, labels) = perceptron(), table(bench)
    sgd = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-3)
    rows = torch.randint(len(x), (100, 64), device=DEVICE)
    number = [0]

    def call():
        number[0] += 1
        chosen = rows[number[0] % len(rows)]
        sgd.zero_grad()
        functional.cross_entropy(model(x[chosen]), labels[chosen]).backward()
        sgd.step()

    time = timed(call, 0.1 if bench.tiny else 1)
    return time | {"run_steps_per_second": 1 / time["seconds"]}


def many_runs(bench: Bench, runs: int, form: str) -> dict:
    """Steps of runs per second of trainings with a learning rate each, batched."""
    x, labels = table(bench)
    models = [perceptron() for _ in range(runs)]
    params, _ = torch.func.stack_module_state(models)
    params = {name: value.detach() for name, value in params.items()}
    momenta = {name: torch.zeros_like(value) for name, value in params.items()}
    rates = torch.full((runs,), 0.01, device=DEVICE)

    def loss(params, x, labels):
        return functional.cross_entropy(torch.func.functional_call(models[0], params, (x,)), labels)

    slopes = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None, None))

    def step(params, momenta, x, labels):
        found = slopes(params, x, labels)
        momenta = {name: 0.9 * momenta[name] + found[name] + 5e-3 * params[name] for name in params}
        moved = {
            name: value - rates.reshape(-1, *(1,) * (value.ndim - 1)) * momenta[name]
            for name, value in params.items()
        }
        return moved, momenta

    if form == "compiled":
        step = torch.compile(step, backend=compiler(bench.tiny))
    rows = torch.randint(len(x), (100, 64), device=DEVICE)
    held, number = [params, momenta], [0]

    def call():
        number[0] += 1
        chosen = rows[number[0] % len(rows)]
        held[0], held[1] = step(held[0], held[1], x[chosen], labels[chosen])

    time = timed(call, 0.1 if bench.tiny else 1)
    return time | {"run_steps_per_second": runs / time["seconds"]}


class Block(nn.Module):
    """Two convolutions with batch norm, and a shortcut."""

    def __init__(self, before: int, after: int, stride: int, projected: bool):
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after), nn.BatchNorm2d(after)])
        self.stride, self.more = stride, after - before
        self.shortcut: nn.Module | None = None
        if projected and (stride > 1 or before != after):
            convolution = nn.Conv2d(before, after, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(after))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As the blocks of `lnl_jax.models.ResNet`."""
        outputs = functional.relu(self.norms[0](self.first(inputs)))
        outputs = self.norms[1](self.second(outputs))
        if self.shortcut is not None:
            inputs = self.shortcut(inputs)
        elif self.stride > 1:
            inputs = functional.pad(inputs[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.more))
        return functional.relu(outputs + inputs)


def resnet(name: str, tiny: bool) -> nn.Module:
    """ResNet-18 with projections, or ResNet-8 with zeros, of images of 32 pixels."""
    stages, width = ((2, 2, 2, 2), 64) if name == "resnet18" else ((1, 1, 1), 16)
    width = 4 if tiny else width
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)]
    layers.append(nn.ReLU())
    before = width
    for stage, count in enumerate(stages):
        for block in range(count):
            after, stride = width * 2**stage, 2 if stage and not block else 1
            layers.append(Block(before, after, stride, name == "resnet18"))
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def networks(bench: Bench) -> None:
    """Steps with channels last, autocast in bfloat16, compiled and eager."""
    if bench.tiny:
        jobs = [("resnet8", 8, "bfloat16", "compiled"), ("resnet8", 8, "float32", "eager")]
    else:
        # Each of the compiled ones takes some tens of seconds at first.
        jobs = [
            ("resnet18", 512, "bfloat16", "eager"),
            ("resnet18", 512, "bfloat16", "compiled"),
            ("resnet18", 512, "float32", "eager"),
            ("resnet8", 512, "bfloat16", "eager"),
            ("resnet18", 128, "bfloat16", "eager"),
            ("resnet18", 1024, "bfloat16", "eager"),
            ("resnet8", 512, "bfloat16", "compiled"),
            ("resnet18", 512, "float32", "compiled"),
        ]
    for name, batch, dtype, form in jobs:
        seconds = 1 if bench.tiny else 10 if form == "compiled" else 2
        if bench.has_time(seconds, f"{name} {batch} {dtype} {form}"):
            row = {"network": name, "batch": batch, "dtype": dtype, "form": form}
            attempt(bench, row, functools.partial(network_step, bench, name, batch, dtype, form))


def network_step(bench: Bench, name: str, batch: int, dtype: str, form: str) -> dict:
    """Images per second of a step of SGD with momentum."""
    # As JAX takes products of float32 by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    model = resnet(name, bench.tiny).to(DEVICE, memory_format=torch.channels_last)
    parameters = sum(each.numel() for each in model.parameters())
    sgd = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images = torch.randn(batch, 3, 32, 32, device=DEVICE)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=DEVICE)

    def forward(images, labels):
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            scores = model(images)
        return functional.cross_entropy(scores.float(), labels)

    loss = torch.compile(forward, backend=compiler(bench.tiny)) if form == "compiled" else forward

    def call():
        sgd.zero_grad()
        loss(images, labels).backward()
        sgd.step()

    time = timed(call, 0.1 if bench.tiny else 1)
    return time | {"images_per_second": batch / time["seconds"], "parameters": parameters}


SIDES = {"b": losses, "c": contrastive, "d": letter, "e": networks}
