"""Every environment variable is documented once, and what is documented is read by somebody."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import prefect.settings
import pytest

from tests.infra.files import INFRA, ROOT

CODE = ("vlfilter", "flows", "tasks", "deployments", "benchmarks")
OURS = re.compile(
    r"(VLFILTER|PREFECT|AWS|OPENAI|ANTHROPIC|VLLM|HF|CUDA|BENCHMARK|OMP|MKL|OPENBLAS|DS|GLOO|MALLOC|XDG|TRANSFORMERS"
    r"|TOKENIZERS|TRITON|NCCL|TORCH)_[A-Z0-9_]+|DO_NOT_TRACK"
)
PAGE = (ROOT / "docs" / "operations.md").read_text()


def texts(path: Path) -> Iterator[tuple[str, bool]]:
    """Every text in a Python file, and whether the environment is asked for it by that text."""
    tree = ast.parse(path.read_text())
    asked: set[int] = set()
    for node in ast.walk(tree):
        target = node.value if isinstance(node, ast.Subscript) else getattr(node, "func", None)
        if target is not None and re.search(r"\b(environ(\.\w+)?|getenv)$", ast.unparse(target)):
            key = node.slice if isinstance(node, ast.Subscript) else next(iter(node.args), None)  # type: ignore[attr-defined]
            asked.add(id(key))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, id(node) in asked


def in_code() -> set[str]:
    paths = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    return {text for path in paths for text, asked in texts(path) if asked or OURS.fullmatch(text)}


def between(name: str) -> str:
    found = re.search(rf"<!-- begin:{name} -->\n(.*?)<!-- end:{name} -->", PAGE, re.DOTALL)
    assert found
    return found[1]


def table() -> dict[str, str]:
    """Variable → who reads it."""
    found = {}
    for line in between("environment").splitlines()[2:]:
        names, _, reader = (cell.strip() for cell in line.strip("|").split("|"))
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), reader))
    return found


def internal() -> set[str]:
    return set(re.findall(r"`(\w+)`", between("internal")))


def example(path: Path) -> list[str]:
    return re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", path.read_text(), re.MULTILINE)


def test_what_the_code_reads_is_documented() -> None:
    assert in_code() - set(table()) - internal() == set()


def test_what_is_documented_is_read() -> None:
    ours = {name for name, reader in table().items() if reader == "vlfilter"}
    assert (ours | internal()) - in_code() == set()
    assert set(table()) & internal() == set()


@pytest.mark.parametrize(("name", "reader"), sorted(table().items()))
def test_a_library_reads_what_it_is_said_to_read(name: str, reader: str) -> None:
    if reader == "Prefect":
        assert hasattr(prefect.settings, name)
    elif reader == "botocore":
        service = name.removesuffix("_S3")  # made of the service's name
        assert service in _source("botocore", "configprovider.py", "credentials.py", "session.py")
    elif reader == "huggingface_hub":
        assert name in _source("huggingface_hub", "constants.py", "utils/_auth.py")
    elif reader == "torch":
        assert name in _source("torch", "cuda/__init__.py")
    else:
        assert reader == "vlfilter"


def _source(package: str, *files: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.origin
    return "".join((Path(spec.origin).parent / file).read_text() for file in files)


def test_the_example_names_what_people_set_once_each() -> None:
    names = example(ROOT / ".env.example")
    assert len(names) == len(set(names))
    assert set(names) == set(table())


def test_the_stacks_example_names_what_compose_asks_for() -> None:
    asked = set()
    for path in (INFRA / "compose.yaml", INFRA / "vllm" / "compose.yaml"):
        asked |= set(re.findall(r"\$\{(\w+)", path.read_text()))
    names = example(INFRA / "stack.env.example")
    assert len(names) == len(set(names))
    assert set(names) == asked
