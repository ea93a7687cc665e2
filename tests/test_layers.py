"""The floors of src/statland: a room imports only what lies below it, and there are no circles."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from conftest import ROOT

# From the ground up; rooms on one floor do not import each other.
FLOORS = [
    {"batch", "settings", "drawing"},
    {"models", "data"},
    {"gradients"},
    {"records"},
    {"training"},
    {"monitor", "report"},
    {"command"},
    {"scripts"},
]
SOURCE = ROOT / "src/statland"

# A package, and the only places that may import it.
ONLY = {
    "hydra": {"command", "scripts"},
    "omegaconf": {"command", "scripts"},
    "tensorboard": {"records/recorder.py"},
    "matplotlib": {"gradients/figures.py", "report/figures.py", "drawing.py"},
}


def files() -> dict[str, Path]:
    """Every module by its dotted name below statland; scripts too."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    scripts = {f"scripts.{path.stem}": path for path in (ROOT / "scripts").glob("*.py")}
    plugins = (ROOT / "src/hydra_plugins").glob("*.py")  # ours, counted as command/
    return found | scripts | {f"command.{path.stem}": path for path in plugins}


def imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere, in functions too, but for type checkers' alone."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for block in [node for node in tree.body if isinstance(node, ast.If)]:
        if ast.unparse(block.test) == "TYPE_CHECKING":
            tree.body.remove(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path, names: set[str]) -> set[str]:
    """Of a file's imports those of this project, as modules."""
    below = (name.removeprefix("statland.") for name in imports(path) if "statland" in name)
    return {name if name in names else name.rpartition(".")[0] for name in below} - {""}


def test_no_room_imports_one_above_it_or_beside_it() -> None:
    floor = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
    modules = files()
    for name, path in modules.items():
        room = name.split(".")[0]
        if not room:
            continue  # statland/__init__.py opens doors to every floor
        for imported in ours(path, set(modules)):
            other = imported.split(".")[0]
            assert other == room or floor[other] < floor[room], f"{name} imports {imported}"


def test_no_circles() -> None:
    modules = files()
    graph = {name: ours(path, set(modules)) - {name} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_heavy_packages_stay_where_the_design_puts_them() -> None:
    for name, path in files().items():
        place = path.relative_to(SOURCE if SOURCE in path.parents else ROOT).as_posix()
        place = place.replace("src/hydra_plugins", "command")
        for imported in imports(path):
            package = imported.split(".")[0]
            if imported.startswith("torch.utils.tensorboard"):
                package = "tensorboard"
            allowed = ONLY.get(package, {place})
            assert place in allowed or place.split("/")[0] in allowed, f"{name} imports {imported}"


def test_one_file_alone_uses_the_inside_of_hydra() -> None:
    users = [path.name for path in files().values() if "hydra._internal" in path.read_text()]
    assert users == ["statland_sweeper.py"]


def test_fit_imports_no_diagnostic() -> None:
    assert not [name for name in imports(SOURCE / "training/fit.py") if "gradients" in name]
