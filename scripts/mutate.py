"""Change the code in small ways, one at a time, and list the changes that no test notices.

Each change is made in a copy of the tree, on which the tests of that part run until one fails. The
changes are mutmut's, and besides: an element of a tuple or a list left out, a statement left out.
mutmut's own runner changes functions alone, and none with a decorator, so it would leave out the
tables of efforts and the Numba kernels.

Messages of errors, logging, annotations and docstrings stay as they are. A survivor is a missing
test or a change without an effect; the list is there to be read.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final, TypeAlias

import libcst as cst
from mutmut.mutation import mutators

from ssimrdo.machine import cores

ROOT: Final = Path(__file__).resolve().parent.parent
COPIED: Final = ("data", "docs", "native", "scripts", "ssimrdo", "tests", "README.md")
SETTINGS: Final = "pyproject.toml"
NOT_COPIED: Final = ("__pycache__", ".hypothesis", "*.html", "*.mp4")

KERNELS: Final = "metrics/kernels.py"

FIRST_SECONDS: Final = 900.0
"""Of patience with the tests on unchanged code."""

LEAST_SECONDS: Final = 30.0
"""Of patience with a change's tests, beyond a multiple of what they take on unchanged code."""


Replacement: TypeAlias = cst.CSTNode | cst.RemovalSentinel


@dataclass(frozen=True)
class Part:
    """Modules that are changed, and the tests that should notice, the quickest first."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


PARTS: Final = {
    "bd": Part(("bd/deltas.py", "bd/statistics.py"), ("test_mutants_bd.py", "test_bd.py")),
    "efforts": Part(("codecs/x264/effort.py",), ("test_x264_codec.py", "test_efforts.py")),
    "parameters": Part(
        ("codecs/x264/parameters.py", "codecs/x264/options.py"),
        ("test_x264_codec.py", "test_efforts.py", "test_settings.py", "test_x264.py"),
    ),
    "steering": Part(
        ("codecs/x264/steering.py",), ("test_steering.py", "test_x264_codec.py", "test_claims.py")
    ),
    "objective": Part(
        ("objective/base.py", "objective/ssim_mse.py", "objective/statistics.py"),
        ("test_objective.py", "test_steering.py", "test_claims.py"),
    ),
    "objectives": Part(
        ("objective/balanced.py", "objective/body.py", "objective/edge.py"),
        ("test_objectives.py", "test_objective.py"),
    ),
    "tissue": Part(("metrics/tissue.py",), ("test_tissue.py", "test_quality.py")),
    "losses": Part(
        (
            *("losses/kernels.py", "losses/frames.py", "losses/structural.py"),
            *("losses/level_weighted.py", "losses/multiscale.py", "losses/complex_wavelet.py"),
            *("metrics/level_weighted.py", "metrics/complex_wavelet.py"),
        ),
        ("test_losses.py", "test_losses_indices.py"),
    ),
    "metrics": Part(
        (
            *("metrics/components.py", "metrics/error.py", "metrics/multiscale.py"),
            *("metrics/registry.py", "metrics/similarity.py"),
        ),
        ("test_mutants_metrics.py", "test_metrics.py", "test_msssim.py", "test_search.py"),
    ),
    "kernels": Part(
        (KERNELS,),
        (
            *("test_mutants_metrics.py", "test_metrics.py", "test_objective.py"),
            *("test_steering.py", "test_msssim.py"),
        ),
    ),
}


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Parameters
    ----------
    module : str
        Path of the module below the package.
    line : int
        Where the change is.
    before, after : str
        The line that is changed, without and with the change.
    code : str
        The whole module with the change.
    """

    module: str
    line: int
    before: str
    after: str
    code: str

    def __str__(self) -> str:
        return f"ssimrdo/{self.module}:{self.line}: {self.before}  ->  {self.after or '(nothing)'}"


class _Changes(cst.CSTVisitor):
    """Collects the nodes that may be changed, each with what takes its place."""

    def __init__(self) -> None:
        self.all: list[tuple[cst.CSTNode, Replacement]] = []
        self._targets: list[cst.CSTNode] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _is_out_of_scope(node):
            return False
        if isinstance(node, cst.AssignTarget | cst.CompFor):
            self._targets.append(node.target)
        for kind, operator in mutators.mutation_operators:
            if isinstance(node, kind) and operator is not mutators.operator_assignment:
                self.all += [(node, other) for other in operator(node) if _is_worth_it(node, other)]
        is_target = any(node is target for target in self._targets)
        if isinstance(node, cst.Tuple | cst.List | cst.Set | cst.Dict) and not is_target:
            several = node.elements if len(node.elements) > 1 else ()
            self.all += [(element, cst.RemoveFromParent()) for element in several]
        if isinstance(node, cst.Expr | cst.AugAssign):
            self.all.append((node, cst.Expr(cst.Ellipsis())))
        return super().on_visit(node)


def _is_worth_it(node: cst.CSTNode, other: cst.CSTNode) -> bool:
    """Leave out what nearly always fails at once, or changes the case of a text alone."""
    if isinstance(node, cst.Call) and isinstance(other, cst.Call):
        return len(other.args) < len(node.args) or not other.func.deep_equals(node.func)
    if isinstance(node, cst.SimpleString) and isinstance(other, cst.SimpleString):
        return "XX" in other.value
    return True


def _is_out_of_scope(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Expr) and isinstance(node.value, cst.BaseString):
        return True
    if isinstance(node, cst.Expr | cst.Call):
        text = cst.Module([]).code_for_node(node)
        if text.startswith(("logger.", "logging.")):
            return True
    if isinstance(node, cst.Assign):
        target = node.targets[0].target
        return isinstance(target, cst.Name) and target.value == "__all__"
    return isinstance(
        node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom | cst.Raise | cst.Assert
    )


def mutants_of(modules: Iterable[str], most: int, seed: int) -> Iterator[Mutant]:
    """Yield changes of some modules, each once and none that cannot be compiled.

    Parameters
    ----------
    modules : iterable of str
        Paths below the package.
    most : int
        How many are drawn at random; 0 for all.
    seed : int
        Of the draw.
    """
    changes = [
        (module, tree, *change)
        for module in modules
        for tree in [cst.parse_module((ROOT / "ssimrdo" / module).read_text())]
        for change in _changes(tree)
    ]
    if most:
        random.Random(seed).shuffle(changes)
    seen = set()
    for module, tree, node, other in changes:
        code = _changed(tree, node, other)
        if code is None or (module, code) in seen or code == tree.code:
            continue
        seen.add((module, code))
        yield _mutant(module, tree.code, code)
        if len(seen) == most:
            return


def _changes(tree: cst.Module) -> list[tuple[cst.CSTNode, Replacement]]:
    found = _Changes()
    tree.visit(found)
    return found.all


def _changed(tree: cst.Module, node: cst.CSTNode, other: Replacement) -> str | None:
    try:
        changed = (
            tree.deep_remove(node)
            if isinstance(other, cst.RemovalSentinel)
            else tree.deep_replace(node, other)
        )
        assert isinstance(changed, cst.Module)
        compile(changed.code, "mutant", "exec", dont_inherit=True)
    except (cst.CSTValidationError, SyntaxError):
        return None
    return changed.code


def _mutant(module: str, original: str, code: str) -> Mutant:
    before, after = original.splitlines(), code.splitlines()
    first = _agreeing(before, after)
    last = _agreeing(before[first:][::-1], after[first:][::-1])
    old, new = (
        re.sub(r"\s+", " ", " ".join(each[first : len(each) - last])).strip()
        for each in (before, after)
    )
    return Mutant(module, first + 1, old, new, code)


def _agreeing(one: list[str], other: list[str]) -> int:
    """Return how many lines are the same at the beginning of both."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def copy_tree(folder: Path) -> None:
    """Copy what tests need into a folder."""
    ignored = shutil.ignore_patterns(*NOT_COPIED)
    for name in (*COPIED, SETTINGS):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)


def passes(tree: Path, tests: Iterable[str], *, timeout: float, compiles: bool = False) -> bool:
    """Tell whether all tests pass in a copy of the tree.

    Parameters
    ----------
    tree : Path
        The copy.
    tests : iterable of str
        Names of test modules.
    timeout : float
        Seconds after which they count as failed.
    compiles : bool
        Whether Numba compiles all kernels anew.
    """
    with tempfile.TemporaryDirectory(prefix="ssimrdo-mutate-") as scratch:
        environment = {
            **os.environ,
            "PYTHONPATH": str(tree),
            # Byte code is taken for current if size and second of the source are.
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": scratch,
            **({"NUMBA_CACHE_DIR": scratch} if compiles else {}),
        }
        environment.pop("SSIMRDO_CT_DATA", None)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
                "--hypothesis-profile=mutate",
                *(f"tests/{test}" for test in tests),
            ],
            cwd=tree,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            # With whatever the tests have started.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def survives(mutant: Mutant, part: Part, tree: Path, *, timeout: float) -> bool:
    """Tell whether no test of a part notices a mutant; the tree is as before in the end."""
    path = tree / "ssimrdo" / mutant.module
    original = path.read_text()
    stamp = path.stat()
    path.write_text(mutant.code)
    try:
        return passes(tree, part.tests, timeout=timeout, compiles=mutant.module == KERNELS)
    finally:
        path.write_text(original)
        # Numba's cache goes by the stamp.
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def run_part(name: str, options: argparse.Namespace) -> tuple[int, int]:
    """Run the mutants of a part, print those that survive, and return how many ran and survived."""
    part = PARTS[name]
    mutants = list(mutants_of(part.modules, options.most, options.seed))
    with tempfile.TemporaryDirectory(prefix="ssimrdo-mutate-") as folder:
        trees = [Path(folder, str(number)) for number in range(options.jobs)]
        trees[0].mkdir()
        copy_tree(trees[0])
        started = time.monotonic()
        if not passes(trees[0], part.tests, timeout=FIRST_SECONDS, compiles=name == "kernels"):
            raise SystemExit(f"mutate: {name}: the tests fail without any change")
        timeout = LEAST_SECONDS + 2 * options.jobs * (time.monotonic() - started)
        note(f"{name}: {len(mutants)} changes, tests {timeout:.0f} s at most")
        for tree in trees[1:]:
            # With the kernels that the first has compiled.
            shutil.copytree(trees[0], tree)
        free: SimpleQueue[Path] = SimpleQueue()
        for tree in trees:
            free.put(tree)

        def survived(mutant: Mutant) -> bool:
            tree = free.get()
            try:
                return survives(mutant, part, tree, timeout=timeout)
            finally:
                free.put(tree)

        count = 0
        pool = ThreadPoolExecutor(options.jobs)
        try:
            for mutant, lives in zip(mutants, pool.map(survived, mutants), strict=True):
                count += lives
                if lives:
                    print(mutant, flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
    took = (time.monotonic() - started) / 60
    print(f"{name}: {count} of {len(mutants)} survive ({took:.0f} min)", flush=True)
    return len(mutants), count


def note(text: str) -> None:
    """Print a message to stderr."""
    print(f"mutate: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the parts that are asked for and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutate",
        description=(__doc__ or "").partition("\n\n")[0],
        epilog="Results go to stdout. Exit status: 0 all changes ran, 1 the tests fail without "
        "any change, 2 bad usage.",
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all by default"
    )
    parser.add_argument(
        *("--most", "-n"),
        type=int,
        default=80,
        metavar="N",
        help="at most so many changes of each part, drawn at random; 0 for all (default: 80)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (default: 0)")
    parser.add_argument(
        *("--jobs", "-j"),
        type=int,
        default=cores(),
        metavar="N",
        help="how many run at a time (default: one per core)",
    )
    options = parser.parse_args()
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"{name!r} is no part: use some of {', '.join(PARTS)}")
    if options.most < 0 or options.jobs < 1:
        parser.error("--most is 0 or more, --jobs 1 or more")
    # So that copies are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = [run_part(name, options) for name in dict.fromkeys(options.parts) or PARTS]
    ran, survived = map(sum, zip(*results, strict=True))
    print(f"in all: {survived} of {ran} survive")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
