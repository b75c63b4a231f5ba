"""The whole tree, read as syntax: nothing in it runs code from data, opens a shell or trusts a hub's code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("vlfilter", "tasks", "flows", "deployments", "benchmarks")
UNPICKLERS = {
    "vlfilter/retrieval/published.py",  # admits tensors only: tests/retrieval/test_published.py
    "vlfilter/data/schemas/plain_pickle.py",  # admits plain values only: test_planted_code.py
    "vlfilter/scoring/parcels.py",  # reads what its own parent or child sent through an inherited socket
}
SOCKETS = {"vlfilter/data/fetch.py"}  # checks every address: tests/data/test_fetch.py
FORBIDDEN = {
    "eval": "runs text",
    "exec": "runs text",
    "compile": "makes code of text",
    "__import__": "imports by a text",
    "os.system": "opens a shell",
    "os.popen": "opens a shell",
    "subprocess.getoutput": "opens a shell",
    "subprocess.getstatusoutput": "opens a shell",
    "marshal.loads": "reads code",
    "marshal.load": "reads code",
    "shelve.open": "unpickles",
    "joblib.load": "unpickles",
    "dill.load": "unpickles",
    "dill.loads": "unpickles",
    "cloudpickle.load": "unpickles",
    "cloudpickle.loads": "unpickles",
    "pickle.load": "unpickles",
    "pickle.loads": "unpickles",
    "pickle.Unpickler": "unpickles",
    "pandas.read_pickle": "unpickles",
    "pd.read_pickle": "unpickles",
    "torch.hub.load": "runs a hub's code",
    "tempfile.mktemp": "races",
    "yaml.load": "builds objects",
    "yaml.load_all": "builds objects",
    "yaml.full_load": "builds objects",
    "yaml.unsafe_load": "builds objects",
    "urllib.request.urlretrieve": "fetches without limits",
    "wds.decode": "unpickles members",
}
METHODS = {"extractall": "writes what a tar or zip says", "extract": "writes what a tar or zip says"}
NETWORK = ("socket", "urllib.request", "http.client", "requests", "ftplib")
MUST = {"torch.load": ("weights_only", True)}
MAY_NOT = {"shell": True, "trust_remote_code": True, "allow_pickle": True, "weights_only": False, "verify": False}


def findings(source: str, name: str = "a.py") -> Iterator[str]:
    """What is wrong with a file, one line each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(node, name)
        if isinstance(node, ast.ClassDef) and name not in UNPICKLERS:
            yield from (f"{node.lineno}: {ast.unparse(b)}" for b in node.bases if ast.unparse(b).endswith("Unpickler"))
        if isinstance(node, ast.Call):
            yield from _call(node, name)


def _imports(node: ast.Import | ast.ImportFrom, name: str) -> Iterator[str]:
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    for module in modules:
        if module.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "shelve") and name not in UNPICKLERS:
            yield f"{node.lineno}: imports {module}"
        if module in NETWORK and name not in SOCKETS and name.startswith(("vlfilter", "tasks", "flows")):
            if isinstance(node, ast.Import) and module == "socket":
                continue  # for this machine's name; connections are found by what they call
            yield f"{node.lineno}: imports {module}"
        if isinstance(node, ast.ImportFrom):
            called = {f"{module}.{alias.name}" for alias in node.names}
            yield from (f"{node.lineno}: {one} {FORBIDDEN[one]}" for one in called & FORBIDDEN.keys())


def _call(node: ast.Call, name: str) -> Iterator[str]:
    called = ast.unparse(node.func)
    if called in FORBIDDEN and not (called == "pickle.loads" and name in UNPICKLERS):
        yield f"{node.lineno}: {called} {FORBIDDEN[called]}"
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield f"{node.lineno}: {called} {METHODS[node.func.attr]}"
    given = {word.arg: word.value for word in node.keywords}
    for word, value in given.items():
        if word in MAY_NOT and not (isinstance(value, ast.Constant) and value.value != MAY_NOT[word]):
            allowed = word == "verify" and not isinstance(value, ast.Constant)  # a TLS context of one's own
            if not allowed:
                yield f"{node.lineno}: {called}({word}={ast.unparse(value)})"
    if called in MUST:
        word, wanted = MUST[called]
        value = given.get(word)
        if not (isinstance(value, ast.Constant) and value.value is wanted):
            yield f"{node.lineno}: {called} without {word}={wanted}"
    if called.split(".")[-1] == "Environment":
        value = given.get("autoescape")
        if not (isinstance(value, ast.Constant) and value.value is True):
            yield f"{node.lineno}: a jinja environment without autoescape"


def files() -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))


def test_nothing_in_the_tree_runs_data() -> None:
    named = files()
    assert len(named) > 200
    found = {name: wrong for name in named if (wrong := list(findings((ROOT / name).read_text(), name)))}
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('a')",
        "torch.load('a', weights_only=False)",
        "torch.load('a', weights_only=flag)",
        "np.load('a', allow_pickle=True)",
        "np.load('a', allow_pickle=allowed)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "from yaml import unsafe_load",
        "eval('1')",
        "exec(code)",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "AutoModel.from_pretrained('a', trust_remote_code=True)",
        "AutoModel.from_pretrained('a', trust_remote_code=trust)",
        "tarfile.open('a').extractall('b')",
        "httpx.get(url, verify=False)",
        "class Mine(pickle.Unpickler): pass",
        "Environment(loader=loader)",
        "torch.hub.load('a', 'b')",
    ],
)
def test_the_reader_finds_it(source: str) -> None:
    assert list(findings(source))


@pytest.mark.parametrize(
    "source", ["import requests", "from http.client import HTTPConnection", "import urllib.request"]
)
def test_only_one_module_of_the_library_opens_addresses(source: str) -> None:
    assert list(findings(source, "vlfilter/scoring/engine.py"))
    assert not list(findings(source, "vlfilter/data/fetch.py"))


def test_what_is_fine_is_not_found() -> None:
    fine = (
        "torch.load(f, weights_only=True)\nmodel.eval()\nre.compile('a')\nyaml.safe_load(t)\n"
        "np.load(f, allow_pickle=False)\nhttpx.get(u, verify=self._tls)\nsubprocess.run(['ls'])"
    )
    assert list(findings(fine)) == []


def test_the_linter_that_looks_for_more_is_on() -> None:
    """ruff's rules S (bandit's) run over all of it in `make lint`; only tests and benchmarks are exempt."""
    import tomllib

    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not [rule for rule in lint["ignore"] if rule.startswith("S") and rule != "S101"]
    exempt = [path for path, rules in lint["per-file-ignores"].items() if "S" in rules]
    assert sorted(exempt) == ["benchmarks/**", "tests/**"]


def test_prefect_keeps_no_pickled_results() -> None:
    """A result that Prefect reads back is unpickled by default: no flow or task of ours keeps any."""
    import importlib
    import pkgutil

    from prefect import Flow, Task

    import flows
    import tasks

    seen = 0
    for package in (flows, tasks):
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for one in vars(importlib.import_module(info.name)).values():
                if isinstance(one, Flow | Task):
                    seen += 1
                    assert one.persist_result is False, f"{info.name}.{one.name}"
    assert seen > 20
