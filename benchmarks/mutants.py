"""Change the policies and the engine in small ways, and count the changes that no test notices.

    python -m benchmarks.mutants [--sample 400] [--seed 1] [--results FILE] [--again]

A mutant is a copy of the package in which one comparison, condition, operator or constant is
changed, or one statement is dropped. A mutant is killed if one of the tests that run its line
fails, or does not end. The command prints the share of killed mutants by module, and the survivors.
`--again` adds to the results of an earlier run, and repeats its survivors.

Most mutants take a fraction of a second: a run under coverage.py shows which tests run which line,
and each mutant is tried in a fork of one process that has collected the tests. The usual tools were
weighed: mutmut drops no statements and does not change decorated functions or module constants,
and cosmic-ray starts the same tests anew for each mutant, which takes hours here.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
MUTATED = ("agentkit/policy", "agentkit/engine")
TESTS = (
    *("tests/policy", "tests/engine", "tests/manager", "tests/output", "tests/telemetry"),
    "tests/failover/test_time.py",
)
IGNORED = "tests/engine/test_interruptions.py"  # it sets a trace function, as coverage.py does
COPIED = ("agentkit", "tests", "benchmarks", "docs", "examples", "pyproject.toml")
OPTIONS = (
    *("-q", "--basetemp=tmp", "-p", "no:randomly", "-p", "no:cacheprovider", "--hypothesis-seed=0"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # some plugins are imported already
)
THIRD_PARTY = ("pytest", "hypothesis", "pydantic", "pybreaker", "diskcache", "opentelemetry.trace")

LINES = "lines.json"
FAILED = "failed.txt"
NOT_INSTALLED = 71
CPU_SECONDS = 60
WALL_SECONDS = 180
MEMORY = 3 << 30  # bytes
BUDGET = 45.0  # seconds that the tests of one mutant took on the unchanged package

Status = Literal["killed", "timed out", "survived"]

_FLIPPED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_EXTREMES = {"min": "max", "max": "min"}
_NAME = re.compile(r"[a-z][a-z_]+")
_UNSEEN = ("log", "warnings", "__slots__", "__all__", "TYPE_CHECKING", "Literal", "TypeVar")


@dataclass(frozen=True)
class Mutant:
    """The bytes of a module from `start` to `end`, replaced.

    `function` is the outermost function around them, as ``<qualified name>:<first line>``; empty if
    they run at import.
    """

    file: str
    line: int
    start: int
    end: int
    before: str
    after: str
    function: str


@dataclass
class Result:
    """What became of a mutant; `by` is the test that killed it."""

    mutant: Mutant
    status: Status
    by: str
    seconds: float


# --- the mutants of a module


def mutants_of(file: str, source: bytes) -> Iterator[Mutant]:
    """Every mutant of one module that compiles."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    seen = set()
    tree = ast.parse(source)
    functions = list(_bodies(tree))
    for node, after in _changes(tree):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        function = next((name for name, lines in functions if node.lineno in lines), "")
        mutant = Mutant(file, node.lineno, start, end, source[start:end].decode(), after, function)
        if mutant not in seen and _compiles(mutated(source, mutant)):
            seen.add(mutant)
            yield mutant


def _bodies(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, range]]:
    """The outermost functions and the lines of their bodies."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _bodies(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([child.lineno, *(each.lineno for each in child.decorator_list)])
            lines = range(child.body[0].lineno, (child.end_lineno or 0) + 1)
            yield f"{prefix}{child.name}:{first}", lines


def mutated(source: bytes, mutant: Mutant) -> bytes:
    """The source of the module with the change."""
    return source[: mutant.start] + mutant.after.encode() + source[mutant.end :]


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _changes(tree: ast.AST) -> Iterator[tuple[Any, str]]:
    """Pairs of a node and the text that replaces it."""
    for node in _visible(tree):
        if isinstance(node, ast.stmt):
            yield from _dropped(node)
        if isinstance(node, ast.If | ast.While | ast.IfExp) and not _has_opposite(node.test):
            yield node.test, f"(not ({ast.unparse(node.test)}))"
        if isinstance(node, ast.FunctionDef):
            yield from _reassigned(node)
        for changed in _variants(node):
            yield node, f"({ast.unparse(changed)})"


def _has_opposite(test: ast.expr) -> bool:
    """Whether the opposite of `test` is a mutant already."""
    return isinstance(test, ast.UnaryOp) or (isinstance(test, ast.Compare) and len(test.ops) == 1)


def _visible(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that decide something: no annotations, docstrings, log lines or representations."""
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Global):
        return
    if isinstance(node, ast.FunctionDef) and node.name in {"__repr__", "__str__"}:
        return
    if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign | ast.If) and _is_unseen(node):
        return
    yield node
    unseen = {"annotation", "returns", "decorator_list", "type_params", "bases"}
    for name, value in ast.iter_fields(node):
        if name not in unseen:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _visible(child)


def _is_unseen(node: ast.Expr | ast.Assign | ast.AnnAssign | ast.If) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
        return True
    return bool(re.match(rf"(if )?({'|'.join(_UNSEEN)})\b", ast.unparse(node)))


def _dropped(node: ast.stmt) -> Iterator[tuple[ast.stmt, str]]:
    kept = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Tuple)
    plain = (
        ast.Expr | ast.Assign | ast.AugAssign | ast.Raise | ast.Return | ast.Continue | ast.Break
    )
    last = isinstance(node, ast.Return) and node.value is None
    if isinstance(node, plain) and not kept and not last:
        yield node, "pass"


def _reassigned(function: ast.FunctionDef) -> Iterator[tuple[ast.stmt, str]]:
    """Assignments to a variable that has a value already: without it, nothing is undefined."""
    known = {each.arg for each in [*function.args.args, *function.args.kwonlyargs]}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in known:
                yield node, "pass"
            known.add(node.targets[0].id)


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """The same expression with one change."""
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            for kind in _FLIPPED[type(op)]:
                ops = [*node.ops[:index], kind(), *node.ops[index + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _SWAPPED:
        if not any(isinstance(side, ast.JoinedStr) for side in (node.left, node.right)):
            yield ast.BinOp(node.left, _SWAPPED[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _other_values(node.value))
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in _EXTREMES:
        extreme = ast.Name(_EXTREMES[ast.unparse(node.func)])
        yield ast.Call(extreme, node.args, node.keywords)


def _other_values(value: object) -> Iterator[bool | float | str]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, str) and _NAME.fullmatch(value):
        yield f"{value}_"


# --- the tests of a line


class Observed:
    """A pytest plugin: how long each test takes, and which ones failed."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid or "collection")


@dataclass
class Lines:
    """The tests of each line, and the seconds that each test took."""

    tests: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    @classmethod
    def read(cls, path: Path) -> Lines:
        read = json.loads(path.read_text())
        tests = {
            file: {int(line): each for line, each in lines.items()}
            for file, lines in read["tests"].items()
        }
        return cls(tests, read["seconds"])

    def of(self, mutant: Mutant) -> list[str]:
        """The tests that run the line of `mutant`, quick ones first, up to a budget of time.

        A line that runs at import belongs to every test of its module.
        """
        lines = self.tests.get(mutant.file, {})
        last = mutant.line + mutant.before.count("\n")
        found = {test for line in range(mutant.line, last + 1) for test in lines.get(line, ())}
        if not found and not mutant.function:
            found = {test for tests in lines.values() for test in tests}
        chosen, spent = [], 0.0
        for test in sorted(found, key=lambda each: self.seconds.get(each, 0.0)):
            spent += self.seconds.get(test, 0.0)
            if spent < BUDGET:
                chosen.append(test)
        return chosen


def pytest_with(arguments: list[str], *plugins: object) -> int:
    import pytest

    return int(pytest.main([*OPTIONS, *arguments], plugins=list(plugins)))


def run_each(items: list[Any]) -> Iterator[Any]:
    """Run collected tests, each one when it has been yielded."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        yield item
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def measure(tree: Path, items: list[Any], observed: Observed) -> int:
    """Run all tests on the unchanged package, and write down which lines each of them runs.

    A test that fails here, which some do while they are traced, is of no use.
    """
    import coverage

    folders = [str(tree / each) for each in MUTATED]
    tracer = coverage.Coverage(data_file=None, source=folders, config_file=False)
    tracer.start()
    for item in run_each(items):
        tracer.switch_context(item.nodeid)
    tracer.stop()
    useless = {"", *observed.failed}
    data = tracer.get_data()
    tests = {
        Path(file).relative_to(tree).as_posix(): {
            line: [each for each in contexts if each not in useless]
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    (tree / LINES).write_text(json.dumps({"tests": tests, "seconds": observed.seconds}))
    print("fail without a mutant:", *observed.failed, sep="\n")
    return int(len(observed.failed) > len(items) * 0.01)


# --- one mutant at a time


def forked(tree: Path, run: Callable[[], int], *, cpu: int, wall: float) -> int | None:
    """The exit status of `run` in a fork inside `tree`; None if it had to be ended."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            confine(tree, cpu)
            status = run()
        except BaseException:  # noqa: BLE001 - a fork must not return into the loop of its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    limit = time.monotonic() + wall
    while time.monotonic() < limit:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            return os.WEXITSTATUS(code) if os.WIFEXITED(code) else None
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def confine(tree: Path, cpu: int) -> None:
    os.chdir(tree)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    output = os.open(tree / "output.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)


def try_mutant(tree: Path, mutant: Mutant, tests: list[str], run: Callable[[], int]) -> Result:
    """The result of `run`, which tries the tests of `mutant` in a fork."""
    began, failed = time.monotonic(), tree / FAILED
    failed.unlink(missing_ok=True)
    code = forked(tree, run, cpu=CPU_SECONDS, wall=WALL_SECONDS) if tests else 0
    if code == NOT_INSTALLED:
        raise RuntimeError((tree / "output.txt").read_text()[-2000:])
    status: Status = "timed out" if code is None else "survived" if code == 0 else "killed"
    by = failed.read_text() if failed.exists() else ""
    return Result(mutant, status, by, round(time.monotonic() - began, 1))


class Session:
    """A pytest plugin that tries mutants of functions on the collected tests.

    Each fork puts the changed code into the function that is imported already.
    """

    def __init__(self, tree: Path, mutants: list[Mutant], report: Callable[[Result], None]) -> None:
        self.tree, self.mutants, self.report = tree, mutants, report
        self.observed = Observed()

    def pytest_runtestloop(self, session: Any) -> bool:
        for folder in MUTATED:  # some modules are imported when they are first needed
            for path in (self.tree / folder).rglob("*.py"):
                parts = path.relative_to(self.tree).with_suffix("").parts
                import_module(".".join(parts))
        items = {item.nodeid: item for item in session.items}
        run = lambda: measure(self.tree, list(items.values()), self.observed)  # noqa: E731
        if forked(self.tree, run, cpu=3600, wall=3600) != 0:
            msg = "the tests fail without a mutant"
            raise RuntimeError(msg)
        lines = Lines.read(self.tree / LINES)
        for mutant in self.mutants:
            tests = [items[each] for each in lines.of(mutant)]
            if not tests:  # of a function that runs at import, or that nothing calls
                continue
            self.report(try_mutant(self.tree, mutant, tests, partial(self._try, mutant, tests)))
        return True

    def _try(self, mutant: Mutant, tests: list[Any]) -> int:
        try:
            install(self.tree, mutant)
        except Exception:  # noqa: BLE001 - it is a defect of this script, not of the package
            traceback.print_exc()
            return NOT_INSTALLED
        for _ in run_each(tests):
            if self.observed.failed:
                break
        (self.tree / FAILED).write_text("".join(self.observed.failed))
        return int(bool(self.observed.failed))


def install(tree: Path, mutant: Mutant) -> None:
    """Put the changed code into the imported function that contains it."""
    path = tree / mutant.file
    module = compile(mutated(path.read_bytes(), mutant), str(path), "exec")
    (new,) = (each for each in _codes(module) if _identity(each) == mutant.function)
    gc.unfreeze()  # the tests keep the collector from what is loaded
    functions = [each for each in gc.get_objects() if isinstance(each, FunctionType)]
    found = [
        each
        for each in functions
        if each.__code__.co_filename == str(path) and _identity(each.__code__) == mutant.function
    ]
    if not found:
        msg = f"{mutant.function} of {path} is not imported"
        raise RuntimeError(msg)
    for each in found:
        each.__code__ = new


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


def _identity(code: CodeType) -> str:
    return f"{code.co_qualname}:{code.co_firstlineno}"


def try_module(tree: Path, mutant: Mutant, tests: list[str]) -> Result:
    """Try a mutant of what runs at import: in a process that has not imported the package."""
    path = tree / mutant.file
    times, source = path.stat(), path.read_bytes()

    def run() -> int:
        sys.dont_write_bytecode = True  # the compiled modules of the copy are the unchanged ones
        observed = Observed()
        code = pytest_with(["-x", *tests], observed)
        (tree / FAILED).write_text("".join(observed.failed))
        return code

    path.write_bytes(mutated(source, mutant))
    os.utime(path, (0, 0))
    try:
        return try_mutant(tree, mutant, tests, run)
    finally:
        path.write_bytes(source)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


# --- the command


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=400, help="number of new mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--module", default="", help="only modules whose path contains this")
    parser.add_argument("--results", type=Path, default=Path("mutants.json"))
    parser.add_argument(
        "--again", action="store_true", help="keep the results, and try survivors again"
    )
    options = parser.parse_args()
    path = options.results.resolve()
    results = {each.mutant: each for each in (load(path) if options.again else [])}
    terminal = os.fdopen(os.dup(2), "w")

    def report_result(result: Result) -> None:
        mutant = result.mutant
        results[mutant] = result
        save(path, results.values())
        change = f"{_short(mutant.before)} → {_short(mutant.after)}"
        where = f"{mutant.file}:{mutant.line}"
        print(f"{result.status} in {result.seconds} s: {where} {change}", file=terminal, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        tree = copy_tree(Path(scratch))
        chosen = [
            each.mutant
            for each in results.values()
            if each.status == "survived" and still_applies(tree, each.mutant)
        ]
        chosen += sample(tree, options.sample, options.seed, options.module)
        session = Session(tree, [each for each in chosen if each.function], report_result)
        arguments = [*TESTS, f"--ignore={IGNORED}"]
        run = lambda: pytest_with(arguments, session, session.observed)  # noqa: E731
        if forked(tree, run, cpu=10**6, wall=10**6) != 0:
            sys.exit((tree / "output.txt").read_text()[-5000:])
        results |= {each.mutant: each for each in load(path)}
        lines = Lines.read(tree / LINES)
        for mutant in chosen:
            if not (mutant.function and lines.of(mutant)):
                tests = lines.of(replace(mutant, function=""))
                report_result(try_module(tree, mutant, tests))
    print(report(list(results.values())))


def copy_tree(tree: Path) -> Path:
    """Copy what the tests need, and have this process and its children import the copy."""
    for name in COPIED:
        place = ROOT / name
        copied = shutil.copytree if place.is_dir() else shutil.copy2
        copied(place, tree / name)
    sys.path[:] = [each for each in sys.path if Path(each or ".").resolve() != ROOT]
    for each in THIRD_PARTY:
        __import__(each)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    return tree


def still_applies(tree: Path, mutant: Mutant) -> bool:
    """Whether the source is what it was where `mutant` changes it."""
    source = (tree / mutant.file).read_bytes()
    return source[mutant.start : mutant.end] == mutant.before.encode()


def sample(tree: Path, size: int, seed: int, module: str) -> list[Mutant]:
    """A random choice of all mutants, the same for the same seed."""
    every = [
        mutant
        for folder in MUTATED
        for path in sorted((tree / folder).rglob("*.py"))
        for mutant in mutants_of(path.relative_to(tree).as_posix(), path.read_bytes())
        if module in mutant.file
    ]
    print(f"{len(every)} mutants", file=sys.stderr)
    return random.Random(seed).sample(every, min(size, len(every)))


def load(path: Path) -> list[Result]:
    read = json.loads(path.read_text())
    return [Result(**{**each, "mutant": Mutant(**each["mutant"])}) for each in read]


def save(path: Path, results: Any) -> None:
    path.write_text(json.dumps([asdict(each) for each in results], indent=1, ensure_ascii=False))


def report(results: list[Result]) -> str:
    """The kill rate by module, and the survivors, in Markdown."""
    of_file: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        for row in (result.mutant.file, "all"):
            of_file[row][result.status] += 1
    lines = [
        "| module | mutants | killed | timed out | survived | rate |",
        "|---|---|---|---|---|---|",
    ]
    for file in sorted(of_file, key=lambda each: (each == "all", each)):
        counts = of_file[file]
        rate = 1 - counts["survived"] / counts.total()
        lines.append(
            f"| `{file}` | {counts.total()} | {counts['killed']} | {counts['timed out']} "
            f"| {counts['survived']} | {rate:.1%} |"
        )
    lines += ["", "| survivor | before | after |", "|---|---|---|"]
    for result in sorted(results, key=lambda each: (each.mutant.file, each.mutant.line)):
        mutant = result.mutant
        if result.status == "survived":
            before, after = _short(mutant.before), _short(mutant.after)
            lines.append(f"| `{mutant.file}:{mutant.line}` | `{before}` | `{after}` |")
    return "\n".join(lines)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else f"{line[:67]}..."


if __name__ == "__main__":
    main()
