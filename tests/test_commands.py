"""Every command of the pages runs at a tiny size, so that none rots while its page stays."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from experiments import EXPERIMENTS, SWEEPS
from lnl_jax.runner import command_line
from lnl_jax.runner.usage import as_text
from tests import small_sets
from tests.compiled import cache_folder
from tests.documentation import ROOT, commands, files, pages

# What no test here runs, and where it runs instead.
ELSEWHERE = {
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[experiments]' && "
    ".venv/bin/python experiments/run.py --exp ldr_digits": "the first thing in .ci/run",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && "
    ".venv/bin/python -m pytest -q -n 2": "the second thing in .ci/run",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[all]'": "its parts in .ci/run",
    ".venv/bin/python -m pytest -n 2": "in .ci/run",
    ".venv/bin/ruff check --fix . && .venv/bin/ruff format .": "in .ci/run",
    ".venv/bin/pip install -e '.[docs]' && "
    ".venv/bin/python -m sphinx docs build/docs": "in .ci/run",
    "pip install .": "as a wheel, in .ci/run",
    ".venv/bin/pip install -e '.[experiments]'": "its parts in .ci/run",
    ".venv/bin/pip install -e '.[experiments,cuda13]'": "needs a GPU, which no test has",
    ".venv/bin/pip install -e '.[experiments]' 'jax[cuda12]'": "needs a GPU, which no test has",
    ".venv/bin/pip install -e '.[experiments,tpu]'": "needs a TPU, which no test has",
    "pip install -q '.[experiments]'": "its parts in .ci/run",
    "python experiments/run.py --exp frozen_features --dataset cifar10 --data_dir DIR "
    "--tower efficientnet-lite0.safetensors --features features.npz --noises "
    "none,worse,aggre,random1,symmetric_40,symmetric_60,symmetric_80,asymmetric_40": "needs the "
    "weights of a tower, which no test has; made features run in test_frozen_features.py",
    "python experiments/run.py --exp frozen_features --dataset cifar100 --data_dir DIR "
    "--tower efficientnet-lite0.safetensors --features features.npz --noises "
    "none,noisy,symmetric_40,symmetric_60": "as the line before",
    "python experiments/run.py --exp frozen_features --dataset cifar10 --data_dir DIR "
    "--tower efficientnet-lite0.safetensors --features features.npz --noises "
    'worse,symmetric_60,asymmetric_40 --losses ""': "as the line before",
    "python experiments/run.py --exp frozen_features --dataset cifar10 --data_dir DIR "
    "--tower efficientnet-lite0.safetensors --features features.npz --noises "
    "worse,symmetric_60,asymmetric_40 --width 0": "as the line before",
    "python experiments/run.py --exp isogclr_features --dataset cifar100 --data_dir DIR "
    "--tower efficientnet-lite0.safetensors --features features.npz --sentences MINILM "
    "--seeds 2 --temperatures 0.1,0.2 --rhos 0.3,0.6,1,1.5": "needs the weights of two towers, "
    "which no test has; features of images and texts run in test_isogclr_features.py",
    "python experiments/run.py --exp label_leakage --dataset cifar10 --data_dir DIR "
    "--tower efficientnet-lite0.safetensors --pixels 112 --features depths.npz "
    "--train_size 2000 --cuts 4 --scales 1,8 --judged 64 --seeds 2": "needs the weights of a "
    "tower, which no test has; random ones run in test_label_leakage.py",
    "python experiments/run.py --exp hello_features --dataset cifar10 --data_dir DIR --noise worse "
    "--tower efficientnet-lite0.safetensors --features features.npz --sentences MINILM --seeds 2 "
    "--head_epochs 5 --projector_epochs 6 --temperatures 50 --weight_decays 0.01,0.1 "
    "--per_class 20 --student_width 8 --student_epochs 10": "needs the weights of two towers, "
    "which no test has; digits run in test_hello_features.py",
    "python experiments/run.py --exp hello_cifar --data_dir DIR --tower "
    "efficientnet-lite0.safetensors --train_size 9000 --teacher_steps 900 --projector.rank 8 "
    "--projector.steps 400 --students.count 2 --students.epochs 100 --rows "
    "hard,zero_shot_kl,probe_kl,projector_kl,stored_kl": "needs the weights of a tower, which no "
    "test has; a made-up one runs in test_hello_cifar.py",
    "python experiments/run.py --exp hello_cifar --dataset cifar100 --data_dir DIR --tower "
    "efficientnet-lite0.safetensors --per_class 1 --train_size 9000 --teacher_steps 900 "
    "--projector.rank 8 --projector.steps 800 --students.count 2 --students.epochs 100 --rows "
    "hard,zero_shot_kl,probe_kl,projector_kl,stored_kl": "as the line before",
    "python experiments/run.py --exp hello_cifar --data_dir DIR --tower "
    "efficientnet-lite0.safetensors --train_size 9000 --teacher_steps 900 --projector.rank 8 "
    "--projector.steps 200 --students.count 2 --students.epochs 100 --per_class 10 --ablation "
    "true --rows hard,stored_kl,projector_kl,projector_kl_updated,projector_kl_random,probe_kl,"
    "zero_shot_kl": "as the line before",
    "python experiments/run.py --exp hello_digits --per_class 10 --students.count 2 --rows "
    "hard,stored_kl,projector_kl --architecture resnet18 --architecture.width 16": "half a minute "
    "of compiling; the line with --architecture vit runs, the network in test_convolutional.py",
    "python experiments/run.py --exp label_issues --dataset cifar10 --labels worse --data_dir DIR "
    "--tower efficientnet-lite0.safetensors --features features.npz": "needs the weights of a "
    "tower, which no test has; those of a made-up one in test_tower_features.py",
    ".ci/run": "is what runs all",
}
# What makes a command take seconds: of a study, a sweep or a script; `SPECIAL` has what is more
# than one such command has.
TINY = {
    "aldr_temperatures": "--noises uniform --folds 2 --seeds 1 --epochs 1 --learning_rates 0.1",
    "candidate_labels": "--items 20 --voters 4",
    "contrastive_choice": "--seeds 2 --epochs 1 --batch_sizes 64 --imbalances 0.1 "
    "--grid.temperatures 0.1 --grid.gammas 0.8 --grid.rhos 0.4 --largest 60 --held_out 40",
    "crowd_labels": "--restarts 1 --epochs 1 --hidden 4 --seeds 2",
    "dro_groups": "--seeds 2 --epochs 1 --learning_rates 0.1 --fractions 0.1 --radii 1 "
    "--temperatures 1 --step_sizes 0.1",
    "frozen_features": "--seeds 2 --epochs 1 --losses ldr_kl,weighted_knn --folds 2 "
    "--noises none,pairflip_40 --weight_decays 0.01 --temperatures 10",
    "hello_cifar": "--foundation_steps 1 --teacher_steps 9 --projector.steps 1 --students.epochs 4 "
    "--students.count 2 --train_size 40 --per_class 1 --architecture.width 4 "
    "--architecture.depth 1",
    "hello_digits": "--foundation_steps 1 --teacher_steps 9 --projector.steps 1 "
    "--students.epochs 4 --students.count 2 --per_class 1 --architecture.width 4 "
    "--architecture.depth 1",
    "hello_features": "--seeds 2 --head_epochs 1 --projector_epochs 1 --student_epochs 1 "
    "--per_class 2 --student_width 4 --weight_decays 0.01 --temperatures 10",
    "hello_noisy": "--seeds 2 --foundation_steps 1 --contrastive_steps 1 --projector_steps 1",
    "isogclr_cifar": "--train_size 200 --model resnet8 --model.width 4 --projector_width 8 "
    "--epochs 1 --lars.warmup_epochs 0 --batch_size 16 --num_neighbours 3",
    "isogclr_digits": "--seeds 2 --epochs 1 --starts 0.1,0.5",
    "isogclr_features": "--seeds 2 --epochs 1 --temperatures 0.1 --rhos 0.3",
    "isogclr_pairs": "--seeds 2 --epochs 1",
    "label_budget": "--budgets 50 --shares 0,1 --methods log_confidence --epochs 1 "
    "--learning_rates 0.1 --seeds 2",
    "label_issues": "--epochs 1 --learning_rates 0.1 --seeds 1",
    "label_leakage": "--seeds 2 --cuts 1 --scales 4 --train_size 40 --judged 4 --columns 16",
    "label_proportions": "--bag_sizes 8 --rounds 1 --seeds 2 --epochs 1",
    "ldr_benchmark": "--dataset vowel --noises clean,uniform --folds 2 --epochs 1 "
    "--learning_rates 0.1 --losses cross_entropy,generalized_cross_entropy,ldr_kl,aldr_kl_step",
    "ldr_cifar": "--folds 3 --first_folds 1 --epochs 1 --batch_size 16 --learning_rates 0.1 "
    "--temperatures 10 --qs 0.7 --train_size 120 --model convnet --model.width 4 --model.depth 1",
    "ldr_cifarn": "--folds 3 --first_folds 1 --epochs 1 --batch_size 16 --learning_rates 0.1 "
    "--temperatures 10 --qs 0.7 --train_size 120 --model convnet --model.width 4 --model.depth 1",
    "ldr_digits": "--seeds 2 --epochs 1 --learning_rates 0.1 --temperatures 10 --qs 0.7",
    "ldr_digits_noise": "--seeds 2 --epochs 1 --learning_rates 0.1 --temperatures 10 --qs 0.7",
    "ldr_letter": "--folds 2 --epochs 1 --learning_rates 0.1 --temperatures 10 --qs 0.7",
    "ldr_ranks": "",
    "loss_leaderboard": "--seeds 2 --epochs 1 --learning_rates 0.1 --only ldr_kl,jensen_shannon",
    "memorization_digits": "--trainings 3 --epochs 1",
    "noisy_training": "--seeds 2 --epochs 1 --learning_rates 0.1",
    "topk_consistency": "--losses ldr_k2 --classes 4 --posteriors 2 --starts 1",
    "test_labels": "--losses cross_entropy --widths 4 --epochs 1 --learning_rates 0.1 --seeds 2",
    "benchmarks/accelerator.py": "--tiny --sections a,i",
    "benchmarks/checkpoints.py": "--megabytes 1 --repeat 0",
    "benchmarks/contrastive.py": "--batch_sizes 8 --block_sizes 4 --width 4 --calls 1",
    "benchmarks/import_time.py": "--runs 1",
    "benchmarks/label_models.py": "--size 500",
    "benchmarks/losses.py": "--examples 8 --classes 6 --calls 1",
    "benchmarks/projector.py": "--batch 4 --steps 1",
    "benchmarks/rows.py": "--model resnet8 --width 4 --batch 4 --examples 10 --steps 1",
    "benchmarks/second_start.py": "--repeat 1 --loss cross_entropy --train_size 120 "
    "--model convnet --model.width 4 --model.depth 1",
    "benchmarks/sweep.py": "--runs 18 --steps 2 --rounds 1",
    "benchmarks/sweep_in_float64.py": "--losses cross_entropy --data_dir DIR",
    "benchmarks/tables.py": "--rows 100 1000 --steps 10",
    "benchmarks/towers.py": "--images 2 --size 32 --embedded 6 --batch_sizes 2 --stages 1",
    "benchmarks/training.py": "--models resnet8 --width 4 --batch 4 --steps 1",
    "benchmarks/scaling.py": "--tiny --devices 2 --sets imagenet --per_device 4",
    "experiments/report.py": "",
    "--list": "",
    "--help": "",
}
SPECIAL = {
    "experiments/run.py --exp ldr_benchmark --dataset csv": "--folds 2 --epochs 1 --batch_size 16 "
    "--learning_rates 0.1 --losses cross_entropy",
    "experiments/run.py --exp ldr_digits --loss ldr_kl": "--seeds 2 --epochs 1 "
    "--learning_rates 0.1",
    "experiments/run.py --exp noisy_training --dataset letter": "--seeds 2 --epochs 1 "
    "--batch_size 32",
    "projector_kl --architecture vit": "--foundation_steps 1 --teacher_steps 9 "
    "--projector.steps 1 --students.epochs 4 --per_class 1 --architecture.width 8",
    "benchmarks/contrastive.py --steps": "--steps 1 --batch_sizes 2",
}
# Options that no study takes.
OF_THE_RUNNER = (
    "--exp",
    "--sweep",
    "--data_dir",
    "--compilation_cache",
    "--profile",
    "--devices",
)
# What stands for the results of an earlier command.
READ = {
    "FOLDER": "python experiments/run.py --exp ldr_benchmark --data_dir DIR",
    "results": "python experiments/run.py --exp ldr_digits",
}
# Commands on files that a page shows run in `tests/runner/test_own_repository.py`.
# Commands of one study compile the same programs, and so does the next session.
COMPILED = {
    "JAX_COMPILATION_CACHE_DIR": str(cache_folder()),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
COMMANDS = sorted(
    {
        command
        for page in pages()
        for command in commands(page)
        if command not in ELSEWHERE and not set(files(page)) & set(command.split())
    }
)


def words_of(command):
    """Variables, the program with what stands before it, and its options ``{name: values}``."""
    words = shlex.split(command)
    at = next(index for index, word in enumerate(words) if word.endswith(".py"))
    variables = dict(word.split("=") for word in words[:at] if "=" in word)
    options, rest = {}, words[at + 1 :]
    for word in rest:
        if word.startswith("--"):
            options[word] = []
        else:
            options.setdefault(next(reversed(options), ""), []).append(word)
    return variables, words[at], options


def kind(command):
    """The study, sweep or script of a command."""
    _, script, options = words_of(command)
    if script != "experiments/run.py":
        return script
    for name in ("--list", "--help"):
        if name in options:
            return name
    return (options.get("--exp") or options.get("--sweep"))[0]


def changes_of(command):
    """What makes it tiny."""
    for start, changes in SPECIAL.items():
        if start in command:
            return changes
    return TINY[kind(command)]


def tiny(command):
    """Variables and words of the command as it is run here."""
    variables, script, options = words_of(command)
    options |= words_of(f"{script} {changes_of(command)}")[2]
    words = [script]
    for name, values in options.items():
        words += [name] * bool(name) + values
    return variables, words


def check(command):
    """Whether the script is there and the study takes what it is given; nothing runs."""
    _, script, options = words_of(command)
    assert (ROOT / script).is_file()
    name = (options.get("--exp") or options.get("--sweep") or [None])[0]
    if name is None or "--help" in options:
        return
    study = EXPERIMENTS[SWEEPS[name][0] if "--sweep" in options else name]
    own = [word for word in options if word not in OF_THE_RUNNER]
    command_line.bind(study, {word.removeprefix("--"): options[word][0] for word in own})


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_one_that_there_is_and_has_a_tiny_form(command):
    check(command)
    check(shlex.join(["python", *tiny(command)[1]]))


def test_a_command_without_a_tiny_form_is_found():
    with pytest.raises(KeyError):
        changes_of("python benchmarks/other.py")


def test_commands_that_run_elsewhere_stand_on_a_page():
    found = {command for page in pages() for command in commands(page)}
    assert set(ELSEWHERE) <= found


def test_commands_in_docstrings_of_studies_are_ones_that_there_are():
    for study in EXPERIMENTS.values():
        for line in study.__doc__.replace("\\\n", " ").splitlines():
            if "python experiments/" in line:
                check(line)


def test_the_records_of_the_results_name_arguments_that_there_are():
    records = sorted((ROOT / "docs/results").glob("*/config.json"))
    assert records
    for file in records:
        record = json.loads(file.read_text())
        given = {name: as_text(value) for name, value in record["arguments"].items()}
        call = command_line.bind(EXPERIMENTS[record["experiment"]], given)
        found = {name: as_text(call.config[name]) for name in given}
        assert found == given, file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where commands run, with small data sets in DIR."""
    found = tmp_path_factory.mktemp("commands")
    small_sets.write(found / "DIR")
    rows = [f"{row % 7},{row % 3 + row / 100},{'abc'[row % 3]}" for row in range(60)]
    (found / "labels.csv").write_text("\n".join(["x,y,label", *rows]))
    return found


def run(command, folder):
    """Runs it in tiny form; returns what it printed."""
    variables, words = tiny(command)
    words = [results_of(READ[word], folder) if word in READ else word for word in words]
    done = subprocess.run(
        [sys.executable, str(ROOT / words[0]), *words[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | COMPILED | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def results_of(command, folder):
    """The folder of a run, which is finished now or was before."""
    line = next(line for line in run(command, folder).splitlines() if line.startswith("results/"))
    return line.partition(":")[0]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_runs(command, folder):
    assert run(command, folder).strip()
