"""The sections of `benchmarks/accelerator.py`, one module each."""

from typing import NamedTuple


class Section(NamedTuple):
    """What a section is and how long it may take.

    Attributes:
        title: a line for people.
        module: of this folder; its `run` measures the side of JAX.
        seconds: it looks for nothing more after them; of a start of `BUDGET` seconds.
        torch_seconds: those of PyTorch's side; 0 where it has none.
    """

    title: str
    module: str
    seconds: float
    torch_seconds: float = 0


# One start of the whole; with another budget all limits grow or shrink with it.
BUDGET = 540
# In the order in which they run.
SECTIONS = {
    "a": Section("device and measured roofs", "roofs", 15),
    "b": Section("losses, forward and backward", "loss_steps", 50, 10),
    "c": Section("contrastive losses, dense and blocked", "contrastive_memory", 45, 15),
    "d": Section("the letter table", "letter_table", 75, 10),
    "e": Section("training steps of ResNets", "networks", 70, 40),
    "f": Section("iSogCLR over SimCLR", "isogclr_steps", 90),
    "g": Section("soft labels of a projector", "projector_labels", 25),
    "i": Section("compile times", "compile_times", 10),
    "h": Section("ldr_cifar", "cifar", 60),
}
# What runs after everything else and takes all the time that is left, up to so many seconds. With
# less than the fewest it would only compile: it is left to the next start then.
LAST, AT_MOST, FEWEST = "h", 240, 60
JAX, TORCH = "jax", "torch"
