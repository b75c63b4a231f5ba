"""The house's rules: who may import whom, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["data", "models", "scoring training selection retrieval evaluation llm report", "methods demo doctor", "cli"]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms.split()}


def modules(*folders: str) -> Iterator[tuple[Path, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from ((path, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield path, node.module


def test_the_library_knows_no_prefect_and_no_flows() -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in modules("vlfilter")
        if name.split(".")[0] in ("prefect", "flows", "tasks") and "cli" not in path.parts
    ]
    assert upward == []


def test_rooms_import_downwards_only() -> None:
    wrong = []
    for path, name in modules("vlfilter"):
        parts = name.split(".")
        room = path.relative_to(ROOT / "vlfilter").parts[0]
        if parts[0] != "vlfilter" or len(parts) < 2 or room not in RANK or parts[1] not in RANK:
            continue
        same_method = room == "methods" and len(parts) > 2 and parts[2] == path.relative_to(ROOT).parts[2]
        if RANK[parts[1]] > RANK[room] or (room == parts[1] == "methods" and not same_method):
            wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_tasks_do_not_import_flows() -> None:
    assert [name for _, name in modules("tasks") if name.startswith("flows")] == []


@pytest.mark.parametrize(
    "module",
    [
        "flows.score_shards",
        "flows.mlm_filter",
        "tasks.score",
        "vlfilter.cli.app",
        "vlfilter.scoring.plan",
        "vlfilter.selection.rules",
    ],
)
def test_importing_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'open_clip') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


def test_no_committed_file_names_a_registry_or_a_path_of_a_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    needles = [b"pypi" + b".org", b"pythonhosted" + b".org", b"npmjs" + b".org", b"/root" + b"/", b"/work" + b"/main"]
    found = [
        f"{name}: {needle.decode()}"
        for name in filter(None, listed.stdout.split("\0"))
        if (ROOT / name).is_file()
        for needle in needles
        if needle in (ROOT / name).read_bytes()
    ]
    assert found == []


def test_the_command_line_is_quick_to_ask_for_help() -> None:
    code = "import sys, vlfilter.cli.app; print(sorted({'numpy', 'pyarrow', 'pydantic', 'fsspec'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
