"""The rooms of DESIGN.md: who may import whom, what stays out, and how large things may grow."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

import tregflow

PACKAGE = ROOT / "tregflow"
MODULES = sorted(PACKAGE.rglob("*.py"))
# Bottom to top; a room imports only from rooms before it, TYPE_CHECKING or not. `simulate` stands apart: the truth
# shares no code with what is judged by it, so it may use `errors` and `fcs` alone, and only `cli` and `selftest`, which
# compares an installation with that truth, may use it.
ORDER = [
    "version", "codes", "errors", "atomic",
    "fcs", "transforms", "gates",
    "sample", "compensation",
    "template",
    "placement",
    "gating",
    "controls", "qc", "clustering", "study", "record",
    "lifecycle",
    "anchors",
    "drawing", "plots",
    "report",
    "batch",
    "verify",
    "selftest",
    "screen", "cli", "__main__",
]  # fmt: skip
# The rooms as DESIGN.md names them; those that are in ORDER alone stand where they belong
DESIGN = [
    "errors", "fcs", "transforms", "gates", "sample", "compensation", "template", "placement", "gating", "controls",
    "qc", "clustering", "study", "record", "plots", "report", "batch", "verify", "cli",
]  # fmt: skip
SIMULATE_USES = {"errors", "fcs", "simulate"}
HEAVY = {"pandas", "scipy", "sklearn", "plotly", "flowkit"}
NOT_AT_IMPORT = HEAVY | {"numpy", "jinja2", "typer", "rich", "pydantic", "openpyxl", "pyarrow", "flowio", "flowutils"}
MACHINE_PATHS = re.compile(
    r"(?<![\w.])/(?:work|home|root|Users|tmp|mnt|opt)/\w|\b[A-Z]:[\\\\/]{1,2}(?:Users|Windows|Program)"
)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    """`tregflow.template.model` for its file, `tregflow.template` for its `__init__`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of everything a module imports, wherever in the file, TYPE_CHECKING included."""
    rooms = {room_of(name_of(p)) for p in MODULES}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are absolute here"
            module = node.module or ""
            if module == "tregflow":
                # `from tregflow import transforms` imports a room, `from tregflow import gate` a public name
                yield from ((node.lineno, f"tregflow.{a.name}" if a.name in rooms else "tregflow") for a in node.names)
            else:
                yield node.lineno, module


def ids(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


# --- import order ---------------------------------------------------------------------------------------------------


def test_every_room_has_its_place() -> None:
    rooms = {room_of(name_of(path)) for path in MODULES} - {"", "simulate"}
    assert rooms <= set(ORDER), f"rooms without a place in ORDER: {sorted(rooms - set(ORDER))}"
    assert len(ORDER) == len(set(ORDER))
    assert not rooms & {"utils", "helpers", "core", "common"}


# `tregflow/__init__.py` names what is public in every room; that it loads none of them is shown further down
@pytest.mark.parametrize("path", [path for path in MODULES if room_of(name_of(path))], ids=ids)
def test_a_room_imports_only_from_rooms_before_it(path: Path) -> None:
    room = room_of(name_of(path))
    wrong = []
    for line, module in imports(path):
        if module != "tregflow" and not module.startswith("tregflow."):
            continue
        other = room_of(module)
        if room == "simulate":
            allowed = other in SIMULATE_USES
        elif other == "simulate":
            allowed = room in {"cli", "selftest"}
        else:
            allowed = other == room or (other in ORDER and ORDER.index(other) < ORDER.index(room))
        if not allowed:
            wrong.append(f"line {line}: {room} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_modules_of_a_room_do_not_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    names = {name_of(path) for path in MODULES}
    for path in MODULES:
        found = {module for _, module in imports(path)} & names
        edges[name_of(path)] = found - {
            name_of(path),
            *(room for room in names if name_of(path).startswith(room + ".")),
        }
    done: set[str] = set()
    while ready := {name for name in edges if name not in done and edges[name] <= done}:
        done |= ready
    assert not set(edges) - done, f"in a circle, or above one: {sorted(set(edges) - done)}"


def test_the_order_is_the_one_of_the_design() -> None:
    assert [room for room in ORDER if room in DESIGN] == DESIGN


# --- what importing costs -------------------------------------------------------------------------------------------

WATCH = """
import json, os, sys
opened = []
CODE = (".py", ".pyc", ".so", ".pyd", ".dylib", ".dll", ".pth", ".zip", ".cfg")
def watch(event, args):
    if event == "open" and isinstance(args[0], str) and not args[0].endswith(CODE) and ".pyc." not in args[0]:
        opened.append(args[0])
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.system", "os.mkdir"):
        opened.append(event)
sys.addaudithook(watch)
before = set(sys.modules)
import {module}
after = set(sys.modules)
print(json.dumps([sorted({{m.partition(".")[0] for m in after - before}}), opened]))
"""


def fresh_import(module: str, folder: Path) -> tuple[set[str], list[str]]:
    """Top-level modules that importing loads, and the files and connections that it opens, in a fresh interpreter."""
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + WATCH.format(module=module)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    loaded, opened = json.loads(run.stdout)
    return set(loaded), opened


def test_importing_tregflow_loads_the_standard_library_only_and_opens_nothing(tmp_path: Path) -> None:
    loaded, opened = fresh_import("tregflow", tmp_path)
    assert not loaded & NOT_AT_IMPORT
    assert loaded <= {"tregflow", *sys.stdlib_module_names}
    assert opened == []
    assert list(tmp_path.iterdir()) == []


def test_importing_the_command_line_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded, _ = fresh_import("tregflow.cli", tmp_path)
    assert "tregflow" in loaded
    assert not loaded & HEAVY
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["fcs", "gating", "template.registry", "record", "placement"])
def test_counting_needs_no_tables_plots_or_oracles(name: str, tmp_path: Path) -> None:
    loaded, _ = fresh_import(f"tregflow.{name}", tmp_path)
    assert not loaded & {"pandas", "sklearn", "plotly", "flowkit", "flowio", "flowutils", "typer", "rich", "jinja2"}


def test_the_public_names_are_there() -> None:
    for name in tregflow.__all__:
        assert getattr(tregflow, name) is not None
    assert sorted(tregflow.__all__) == dir(tregflow)
    with pytest.raises(AttributeError, match="has no attribute 'gates_of'"):
        tregflow.gates_of  # noqa: B018


# --- what is not written here ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_no_pickle_eval_exec_print_or_assert(path: Path) -> None:
    wrong = [
        f"line {line}: import {module}" for line, module in imports(path) if re.match("pickle|marshal|shelve", module)
    ]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Assert):
            wrong.append(f"line {node.lineno}: assert")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "print"}:
            wrong.append(f"line {node.lineno}: {node.func.id}()")
    assert not wrong, "\n".join(wrong)


SOURCES = sorted(
    path
    for folder in ("tregflow", "tests", "gating_templates", "benchmarks", "notebooks", "sample_fcs", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and path.suffix in {".py", ".toml", ".md", ".ipynb", ".csv", ".jinja", ".css", ".js", ".sh", ""}
    if "__pycache__" not in path.parts and path != Path(__file__)
) + sorted(path for path in ROOT.glob("*") if path.suffix in {".md", ".toml", ".cff"})


def test_no_paths_of_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert not found, "\n".join(found)


# --- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_a_file_has_at_most_500_lines(path: Path) -> None:
    if path.name == "codes.py":
        return  # a list, and nothing else
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its `def` on, without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
    return lines


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_functions_and_classes_are_small(path: Path) -> None:
    wrong = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > 50:
            wrong.append(f"line {node.lineno}: {node.name} has {body_lines(node)} lines without its docstring")
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            public = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
            if len(public) > 10:
                wrong.append(f"line {node.lineno}: {node.name} has {len(public)} public methods")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_every_module_class_and_public_function_says_what_it_is(path: Path) -> None:
    module = tree(path)
    wrong = [] if ast.get_docstring(module) or not module.body else ["the module"]
    for node in module.body:
        named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if named and ast.get_docstring(node) is None:
            wrong.append(node.name)
    assert not wrong, f"without docstring: {', '.join(wrong)}"


# --- the rules above would notice -----------------------------------------------------------------------------------


def test_imports_are_found_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    code = """
    from typing import TYPE_CHECKING
    from tregflow import transforms as tf, gate
    if TYPE_CHECKING:
        from tregflow.batch import Plan
    def late():
        import tregflow.report.view
    """
    path.write_text(textwrap.dedent(code), encoding="utf-8")
    assert [module for _, module in imports(path)] == [
        "typing", "tregflow.transforms", "tregflow", "tregflow.batch", "tregflow.report.view",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("open('/wor" + "k/main/x')", True), ("see /hom" + "e/ann/x", True), ("C:" + "\\Users\\x", True),
        ("a/home/b", False), ("https://example.org/home/x", False), ("n /work", False), ("and/or", False),
    ],
)  # fmt: skip
def test_machine_paths_are_recognised(text: str, found: bool) -> None:
    assert bool(MACHINE_PATHS.search(text)) is found


def test_lines_are_counted_without_the_docstring() -> None:
    (node,) = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    x = 1\n    return x\n').body
    assert isinstance(node, ast.FunctionDef)
    assert body_lines(node) == 3
