"""Style rules that no linter knows, held as tests; each rule is first shown to catch what it is for.

Files are those git tracks plus new ones it does not ignore, so a file is held to the rules before it is committed.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ("ledger", "settlement", "gateway")
EXACT = ("ledger", "settlement")

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

# Functions that may be longer, as "path::name": (lines, reason). A kernel's order is its proof. An entry that became
# too generous fails, so that they only shrink.
LONG_FUNCTIONS: dict[str, tuple[int, str]] = {
    "ledger/kernel.py::apply_commands": (162, "the kernel's loop: the order of checks and writes is its proof"),
}

# Files that may use floats, with the reason. No amount of a ledger ever passes through them as a float.
FLOAT_FILES: dict[str, str] = {
    "settlement/workload.py": "invented amounts are drawn from a log-normal law and rounded before they are money",
}

# Words of the glossary's last column that mean nothing else here; the others have honest uses, so people watch them.
FORBIDDEN_WORDS = {
    r"real balance": "posted or available balance",
    r"journal row": "transaction",
    r"batch job": "settlement cycle",
    r"attestations?": "checkpoint or proof",
    r"(shadow|clone) accounts?": "mirror account",
    r"net delta": "net position",
    r"net debit quota": "net debit cap",
}
WORD_PAGES_EXEMPT = {"docs/glossary.md"}  # names the forbidden words in order to forbid them

# Written so that no pattern matches its own text: this file passes its own test.
MACHINE_TRACES = {
    "a package registry": r"p[y]pi[.]org|pythonh[o]sted[.]org|n[p]mjs[.](org|com)|cr[a]tes[.]io|an[a]conda[.]org",
    "where packages come from": r"--(extra-)?index[-]url|--find[-]links",
    "an absolute path of one machine": r"(?<![\w.\-/}])/(root|work|home|Users)/",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
}

# What an import of the library may name beyond its dependencies, and why.
IMPORT_EXEMPT = {
    "starlette": "FastAPI hands out its requests, responses and routes as its own interface",
    "llvmlite": "numba's code generator, of which numba itself pins the version",
    "psycopg": "the extra that talks to PostgreSQL, imported only when a PostgreSQL URL asks for it",
}
IMPORT_NAMES = {"python-stdnum": "stdnum"}

Rule = Callable[[str, ast.Module], Iterator[str]]


# --- what there is to look at -----------------------------------------------------------------------------------------


@functools.cache
def project_files() -> tuple[str, ...]:
    """Name every file of the project, relative to its root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return tuple(sorted(name for name in set(listing.split("\0")) if name and (ROOT / name).is_file()))


def python_files(*packages: str) -> list[str]:
    """Name the Python files of some packages, or of all."""
    names = [name for name in project_files() if name.endswith(".py")]
    return [name for name in names if not packages or name.split("/")[0] in packages]


@functools.cache
def text_of(name: str) -> str:
    """Read a file of the project; bytes that are not UTF-8 are replaced."""
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


@functools.cache
def tree_of(name: str) -> ast.Module:
    """Parse a file of the project."""
    return ast.parse(text_of(name), name)


@functools.cache
def project() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads(text_of("pyproject.toml"))


def distribution_names(requirements: list[str]) -> set[str]:
    """Take the names out of requirements such as ``locust>=2.32``."""
    return {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower() for requirement in requirements}


def findings(rule: Rule, names: list[str]) -> list[str]:
    """Apply a rule to files and collect what it says, as ``path:line: text``."""
    return [f"{name}:{finding}" for name in names for finding in rule(name, tree_of(name))]


def complain(found: list[str]) -> None:
    """Fail with one finding a line."""
    if found:
        pytest.fail("\n" + "\n".join(found), pytrace=False)


# --- rules on a syntax tree -------------------------------------------------------------------------------------------

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, FunctionNode]]:
    """Walk all functions with their dotted names, nested ones included."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, FunctionNode | ast.ClassDef):
            name = f"{prefix}{node.name}."
            if isinstance(node, FunctionNode):
                yield name[:-1], node
        yield from functions(node, name)


def lines_of(node: FunctionNode) -> int:
    """Count a function's lines without its decorators and docstring."""
    end = node.end_lineno or node.lineno
    docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
    return end - node.lineno + 1 - (0 if docstring is None else (docstring.end_lineno or 0) - docstring.lineno + 1)


def long_functions(name: str, tree: ast.Module) -> Iterator[str]:
    """Report functions beyond the limit, and permissions that are wider than needed."""
    for function, node in functions(tree):
        lines = lines_of(node)
        permitted, _ = LONG_FUNCTIONS.get(f"{name}::{function}", (FUNCTION_LINES_MAX, ""))
        if lines > permitted:
            yield f"{node.lineno}: {function} has {lines} lines, {permitted} at most (see LONG_FUNCTIONS)"


def missing_docstrings(_name: str, tree: ast.Module) -> Iterator[str]:
    """Report public modules, classes, functions and methods without a docstring."""
    if ast.get_docstring(tree) is None:
        yield "1: the module has no docstring"
    yield from _missing_below(tree)


def _missing_below(parent: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(parent) if isinstance(parent, ast.Module) else parent.body:
        if isinstance(parent, ast.Module) and node not in parent.body:
            continue
        if not isinstance(node, FunctionNode | ast.ClassDef) or node.name.startswith("_"):
            continue
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        repeated = any(decorator.endswith(("overload", ".setter", "override")) for decorator in decorators)
        if ast.get_docstring(node) is None and not repeated:
            yield f"{node.lineno}: {node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _missing_below(node)


def unsaid_tests(_name: str, tree: ast.Module) -> Iterator[str]:
    """Report tests whose docstring is not exactly one sentence."""
    for function, node in functions(tree):
        if not node.name.startswith("test"):
            continue
        docstring = ast.get_docstring(node) or ""
        sentence = " ".join(docstring.split())
        if not sentence.endswith(".") or "\n\n" in docstring or re.search(r"[.!?][)\"'`]*\s+[A-Z]", sentence):
            yield f"{node.lineno}: {function} needs a docstring of one sentence that states one fact"


def asserts(_name: str, tree: ast.Module) -> Iterator[str]:
    """Report assert statements: python -O removes them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            yield f"{node.lineno}: assert; write `if ...: raise InvariantViolation(...)`"


def floats(_name: str, tree: ast.Module) -> Iterator[str]:
    """Report float literals, conversions to float, float dtypes and true division (path / "name" is no division)."""
    for node in ast.walk(tree):
        what = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            what = f"float literal {node.value}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
            what = "call of float()"
        elif isinstance(node, ast.Attribute) and re.fullmatch(r"float(16|32|64|128|ing)?", node.attr):
            what = f"float dtype {node.attr}"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not _joins_path(node):
            what = 'true division (// for integers, path / "name" or path.joinpath(name) for paths)'
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
            what = "true division"
        if what:
            yield f"{getattr(node, 'lineno', 1)}: {what}"


def _joins_path(node: ast.expr) -> bool:
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
        return False
    texts = (isinstance(side, ast.JoinedStr) or _is_text(side) for side in (node.left, node.right))
    return any(texts) or _joins_path(node.left)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def imported_packages(tree: ast.Module) -> set[str]:
    """Name the top-level packages a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def foreign_imports(_name: str, tree: ast.Module) -> Iterator[str]:
    """Report imports that a user who installed only the wheel would miss."""
    runtime = {IMPORT_NAMES.get(name, name) for name in distribution_names(project()["project"]["dependencies"])}
    permitted = runtime | set(LIBRARY) | set(IMPORT_EXEMPT) | sys.stdlib_module_names
    for package in sorted(imported_packages(tree) - permitted):
        yield f"1: imports {package}, which is no runtime dependency"


# --- rules on text ----------------------------------------------------------------------------------------------------


def matches(patterns: dict[str, str], text: str, *, flags: int = 0) -> Iterator[tuple[int, str]]:
    """Find every pattern in a text; yields the line and the key of the pattern."""
    for key, pattern in patterns.items():
        for match in re.finditer(pattern, text, flags):
            yield text.count("\n", 0, match.start()) + 1, key


def forbidden_words(name: str) -> list[str]:
    """Report words that the glossary replaces."""
    patterns = {better: rf"\b{word}\b" for word, better in FORBIDDEN_WORDS.items()}
    found = matches(patterns, text_of(name), flags=re.IGNORECASE)
    return [f"{name}:{line}: the glossary's word is: {better}" for line, better in found]


def bare_exemptions(text: str) -> list[int]:
    """Give the lines that switch a check off without naming the rule and the reason."""
    marker = re.compile(r"#\s*(noqa\b|type:\s*ignore|pragma:\s*no )")
    reasoned = re.compile(
        r"#\s*(noqa: [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)*|type: ignore\[[a-z, -]+\]|pragma: no (cover|branch))"
        r"\s*(#|-|:|–)\s*\w"
    )
    return [
        number
        for number, line in enumerate(text.splitlines(), start=1)
        if marker.search(line) and not reasoned.search(line)
    ]


# --- the rules catch what they are for --------------------------------------------------------------------------------

BODY_TOO_LONG = "def f() -> None:\n" + "    x = 1\n" * FUNCTION_LINES_MAX
BODY_LONGEST = "def f() -> None:\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (long_functions, BODY_TOO_LONG, BODY_LONGEST),
        (long_functions, "class C:\n" + BODY_TOO_LONG.replace("\n", "\n ").replace("def", " def", 1), "x = 1"),
        (missing_docstrings, "x = 1", '"""M."""'),
        (missing_docstrings, '"""M."""\ndef f(): pass', '"""M."""\ndef _f(): pass'),
        (missing_docstrings, '"""M."""\nclass C:\n  """C."""\n  def f(self): pass', '"""M."""\nclass C:\n  """C."""'),
        (unsaid_tests, "def test_a(): pass", "def helper(): pass"),
        (unsaid_tests, 'def test_a(): "One fact. Another one."', 'def test_a(): "One fact."'),
        (unsaid_tests, 'def test_a(): "No stop"', 'async def test_a(): "One fact (I1) of e-CNY 1.5 here."'),
        (asserts, "assert x", "if not x: raise ValueError"),
        (floats, "x = 1.0", "x = 1"),
        (floats, "x = float(y)", "x = int(y)"),
        (floats, "x = numpy.float64", "x = numpy.int64"),
        (floats, "x = a / b", "x = a // b"),
        (floats, "x /= 2", "x //= 2"),
        (floats, "x = root / name", "x = root / 'a' / name / f'{b}'"),
        (foreign_imports, "import pytest", "import starlette, numpy.typing, stdnum.iban, os, ledger.errors"),
        (foreign_imports, "def f():\n  from locust import User", "from sqlalchemy import select"),
    ],
)
def test_each_rule_sees_the_difference(rule: Rule, bad: str, good: str) -> None:
    """A rule reports the bad example and is silent about the good one."""
    assert list(rule("sample.py", ast.parse(bad)))
    assert not list(rule("sample.py", ast.parse(good)))


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("a package registry", "https://py" + "pi.org/simple"),
        ("where packages come from", "pip install --index" + "-url x"),
        ("an absolute path of one machine", "see /ho" + "me/someone/x"),
        ("an absolute path of one machine", '"/wo' + 'rk/x"'),
        ("a private key", "-----BEGIN PRIVATE" + " KEY-----"),
    ],
)
def test_machine_traces_are_seen(key: str, bad: str) -> None:
    """Each kind of trace of a machine is recognised."""
    assert [found for _, found in matches(MACHINE_TRACES, bad)] == [key]


def test_ordinary_paths_are_no_machine_traces() -> None:
    """Paths inside a URL, a project or a system directory are no trace of a machine."""
    text = "https://example.org/home/x frame/work/ ./work/x docs/rooted/x /var/lib/hugang /v1/payments"
    assert not list(matches(MACHINE_TRACES, text))


@pytest.mark.parametrize(
    ("line", "bare"),
    [
        ("x = 1  # no" + "qa", True),
        ("x = 1  # no" + "qa: E501", True),
        ("x = 1  # no" + "qa: E501 - a URL", False),
        ("x = 1  # type" + ": ignore", True),
        ("x = 1  # type" + ": ignore[misc]", True),
        ("x = 1  # type" + ": ignore[misc]  # the stub is wrong", False),
        ("x = 1  # pragma" + ": no cover", True),
        ("x = 1  # pragma" + ": no cover - compiled", False),
        ("x = 1  # an ordinary comment", False),
    ],
)
def test_exemptions_without_reason_are_seen(line: str, bare: bool) -> None:
    """A comment that switches a check off counts as bare exactly when rule or reason is missing."""
    assert bool(bare_exemptions(line)) is bare


# --- the project keeps the rules --------------------------------------------------------------------------------------


def test_the_search_finds_the_project() -> None:
    """The rules look at all five packages, this file among them, and at files that are no Python."""
    assert {name.split("/")[0] for name in python_files()} >= {*LIBRARY, "benchmarks", "tests"}
    assert {"tests/test_tidy.py", "Makefile", ".ci/run"} <= set(project_files())


def test_functions_stay_short() -> None:
    """No function is longer than the limit unless it is listed as a kernel with its reason."""
    complain(findings(long_functions, python_files()))


def test_permissions_to_be_long_only_shrink() -> None:
    """Every listed kernel exists, has a reason, and is exactly as long as its permission."""
    lengths = {
        f"{name}::{function}": lines_of(node)
        for name in {key.split("::")[0] for key in LONG_FUNCTIONS}
        for function, node in (functions(tree_of(name)) if name in project_files() else ())
    }
    complain(
        [
            f"LONG_FUNCTIONS[{key!r}]: permits {permitted}, has {lengths.get(key)}"
            for key, (permitted, reason) in LONG_FUNCTIONS.items()
            if not reason or permitted <= FUNCTION_LINES_MAX or lengths.get(key) != permitted
        ]
    )


def test_files_stay_short() -> None:
    """No Python file is longer than the limit."""
    lengths = {name: text_of(name).count("\n") for name in python_files()}
    complain([f"{name}: {lines} lines" for name, lines in lengths.items() if lines > FILE_LINES_MAX])


def test_public_names_have_docstrings() -> None:
    """Every public module, class, function and method of the three packages has a docstring."""
    complain(findings(missing_docstrings, python_files(*LIBRARY)))


def test_tests_say_what_they_state() -> None:
    """Every test has a docstring of one sentence."""
    complain(findings(unsaid_tests, [name for name in python_files("tests") if Path(name).name.startswith("test_")]))


def test_the_library_never_asserts() -> None:
    """The three packages raise and never assert."""
    complain(findings(asserts, python_files(*LIBRARY)))


def test_ledger_and_settlement_know_no_float() -> None:
    """Outside the listed files, ledger and settlement neither hold, make nor divide into floats."""
    complain(findings(floats, [name for name in python_files(*EXACT) if name not in FLOAT_FILES]))


def test_permissions_to_use_floats_are_needed() -> None:
    """Every file that may use floats exists, uses them, and has a reason."""
    idle = [name for name in FLOAT_FILES if name not in project_files() or not list(floats(name, tree_of(name)))]
    complain([f"FLOAT_FILES: {name} is not needed" for name in idle])
    assert all(FLOAT_FILES.values())


def test_words_follow_the_glossary() -> None:
    """The three packages and the documentation avoid the words that the glossary replaces."""
    pages = [name for name in project_files() if name.endswith(".md") and name not in WORD_PAGES_EXEMPT]
    complain([found for name in [*python_files(*LIBRARY), *pages] for found in forbidden_words(name)])


def test_forbidden_words_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text with a forbidden word is reported with the glossary's own word."""
    monkeypatch.setattr(sys.modules[__name__], "text_of", lambda _: "one\nthe Real Balance\nthe balance is real")
    assert forbidden_words("page.md") == ["page.md:2: the glossary's word is: posted or available balance"]


def test_no_file_shows_a_machine() -> None:
    """No file names a package registry, a path of one machine or a private key."""
    found = [(name, *match) for name in project_files() for match in matches(MACHINE_TRACES, text_of(name))]
    complain([f"{name}:{line}: {what}" for name, line, what in found])


def test_exemptions_have_reasons() -> None:
    """Every comment in the three packages that switches a check off names the rule and the reason."""
    complain([f"{name}:{line}" for name in python_files(*LIBRARY) for line in bare_exemptions(text_of(name))])


def test_settings_have_reasons() -> None:
    """Every rule that pyproject.toml switches off for all files has its reason on the same line."""
    section = text_of("pyproject.toml").split("\nignore = [\n")[1].split("\n]")[0]
    complain([line for line in section.splitlines() if not re.search(r"\",\s+# \w{1,}", line)])


def test_the_library_imports_only_its_dependencies() -> None:
    """The three packages import the standard library, each other and the runtime dependencies."""
    complain(findings(foreign_imports, python_files(*LIBRARY)))


def test_the_dependency_page_is_complete() -> None:
    """docs/dependencies.md has a full row for each runtime dependency and for nothing else."""
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", text_of("docs/dependencies.md"), re.MULTILINE)
    names = [name for name, _ in rows]
    assert set(names) == distribution_names(project()["project"]["dependencies"])
    assert names == sorted(names)
    assert all(len([cell for cell in cells.split("|") if cell.strip()]) == 3 for _, cells in rows)


def test_the_lock_is_complete() -> None:
    """constraints.txt pins every dependency that make setup asks for, by name and version alone."""
    lines = [line for line in text_of("constraints.txt").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    pinned = {line.split("==")[0].lower() for line in lines}
    metadata = project()["project"]
    extras = metadata["optional-dependencies"]
    wanted = [*metadata["dependencies"], *extras["dev"], *extras["load"], *extras["postgres"]]
    assert distribution_names(wanted) <= pinned


def test_the_wheel_has_every_file_of_the_packages() -> None:
    """Every file of the three packages is Python in a regular package or matches the package data, and no other is."""
    setuptools = project()["tool"]["setuptools"]
    patterns = setuptools["package-data"]["*"]
    assert setuptools["packages"]["find"]["include"] == [entry for name in LIBRARY for entry in (name, f"{name}.*")]
    lost = []
    for name in project_files():
        path = Path(name)
        if path.parts[0] in LIBRARY:
            known = path.suffix == ".py" or any(fnmatch(path.name, pattern) for pattern in patterns)
            if not known or f"{path.parent.as_posix()}/__init__.py" not in project_files():
                lost.append(name)
    complain([f"{name}: would be missing from the wheel" for name in lost])


def test_the_pipeline_can_run() -> None:
    """.ci/run is executable and stops at the first failure."""
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert text_of(".ci/run").startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text_of(".ci/run")


def test_make_explains_each_target() -> None:
    """Every target of the Makefile has a sentence for plain make to print."""
    makefile = text_of("Makefile")
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert targets is not None
    sentences = dict(re.findall(r"^([a-z-]+):.*## (.+\.)$", makefile, re.MULTILINE))
    assert set(sentences) == set(targets[1].split())


def test_tests_cannot_leave_the_machine() -> None:
    """A request to an address beyond loopback is refused before a packet leaves."""
    with pytest.raises(RuntimeError, match="loopback only"):
        httpx.get("http://192.0.2.1/")
