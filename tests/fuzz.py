"""Any calls whatever for as long as one likes: `python tests/fuzz.py --seconds 1800`.

The calls and what is true of them are those of ``test_fuzz.py``; libFuzzer (by way of atheris) makes up the bytes
they are drawn from, and is guided by the lines of Python and the branches of the kernels that a call reaches: the
package is built by clang with coverage, apart from the one in use. With ``--sanitize`` AddressSanitizer and UBSan look
on too; that is slower, and compares instruction sets alone.

A finding does not end the run: the first of each kind is kept, made as small as it gets at the end, and printed.
What is found lies in ``build/fuzz/findings``; the inputs that reach something new lie in ``build/fuzz/corpus``, from
which the next run begins. ``--replay FILE`` judges a finding with the package in use. Exit code 1 if there is any, 2 if
something is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sanitize import COMMON, FLAGS, ROOT, build

FOLDER = ROOT / "build" / "fuzz"
LONGEST = 1024
#: Modules that Numba could not compile if they were instrumented.
COMPILED_BY_NUMBA = [f"lossfast.{name}" for name in ("_words", "pointwise", "rowwise", "backends.numba")]


def judged(data: bytes) -> str | None:
    """The finding that these bytes are, by its name; the details are printed."""
    from calls import Draw, draw_call
    from test_fuzz import Finding, judge

    try:
        judge(draw_call(Draw(data)))
    except Finding as finding:
        print(finding)
        return finding.what
    return None


# --------------------------------------------------------------------------------- what runs in a process of its own


def work(arguments: list[str], findings: Path) -> None:
    """libFuzzer's loop; findings are written down, and only what ends the process ends the loop."""
    import atheris

    with atheris.instrument_imports(include=["lossfast"], exclude=COMPILED_BY_NUMBA, enable_loader_override=False):
        import lossfast  # noqa: F401
    from calls import Draw, draw_call
    from test_fuzz import Finding, judge

    def one(data: bytes) -> None:
        try:
            judge(draw_call(Draw(data)))
        except Finding as finding:
            path = findings / hashlib.sha256(finding.what.encode()).hexdigest()[:12]
            if not path.exists():
                path.with_suffix(".txt").write_text(str(finding))
                path.write_bytes(data)
                print(f"found: {finding.what}", flush=True)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def smaller(data: bytes, fails: Callable[[bytes], bool], until: float) -> bytes:
    """The simplest bytes, of those tried, that fail likewise: fewer and lower ones."""
    data = data.rstrip(b"\0")
    size = len(data)
    while size:
        at = 0
        while at < len(data):
            if time.monotonic() > until:
                return data
            piece = data[at : at + size]
            lower = bytes([piece[0] - 1 - piece[0] // 2]) if size == 1 and piece[0] > 1 else b"\0" * len(piece)
            for instead in (b"", b"\0" * len(piece), lower):
                trial = (data[:at] + instead + data[at + size :]).rstrip(b"\0")
                if trial != data and instead != piece and fails(trial):
                    data = trial
                    break
            else:
                at += size
        size //= 2
    return data


def simplify(path: Path, seconds: float) -> None:
    """Replace a finding by the simplest that is still one of that kind, and its text likewise."""
    text = io.StringIO()

    def what(data: bytes) -> str | None:
        text.seek(0)
        text.truncate()
        with contextlib.redirect_stdout(text):
            return judged(data)

    first = what(path.read_bytes())
    if first is None:
        return
    data = smaller(path.read_bytes(), lambda trial: what(trial) == first, time.monotonic() + seconds)
    what(data)
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(text.getvalue())


# ------------------------------------------------------------------------------------------------------------ the run


def child(environment: dict[str, str], *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    here = Path(environment["PYTHONPATH"].split(os.pathsep)[1]) / "fuzz.py"
    return subprocess.run([sys.executable, str(here), *arguments], env=environment, text=True, **options)  # type: ignore


def prepared(sanitize: bool) -> dict[str, str]:
    """Build, and say how a process finds what was built."""
    missing = [name for name in ("clang",) if shutil.which(name) is None]
    missing += [name for name in ("atheris", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"missing: {', '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    kind = "address" if sanitize else "plain"
    folder = build(f"fuzz-{kind}", "clang", f"-fsanitize=fuzzer-no-link {COMMON} {FLAGS[kind]}")
    spec = importlib.util.find_spec("atheris")
    assert spec is not None and spec.origin is not None
    runtime = Path(spec.origin).parents[1] / ("asan_with_fuzzer.so" if sanitize else "ubsan_with_fuzzer.so")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(runtime),
        "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'tests'}",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:handle_segv=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    if sanitize:
        environment |= {"LOSSFAST_BACKEND": "compiled", "PYTHONMALLOC": "malloc"}
    return environment


def fuzz(seconds: float, sanitize: bool) -> int:
    """Run for that long, and return the number of findings."""
    environment = prepared(sanitize)
    corpus, findings = FOLDER / "corpus", FOLDER / "findings"
    shutil.rmtree(findings, ignore_errors=True)
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        for seed in range(256):
            (corpus / f"seed{seed}").write_bytes(random.Random(seed).randbytes(LONGEST // 2))
    end, executions, crashes = time.monotonic() + seconds, 0, 0
    while (left := int(end - time.monotonic())) > 0:
        libfuzzer = [
            f"-max_total_time={left}",
            f"-max_len={LONGEST}",
            "-len_control=0",
            "-timeout=300",
            "-rss_limit_mb=0",
        ]
        libfuzzer += ["-print_final_stats=1", "-reload=0", f"-artifact_prefix={findings}/", str(corpus)]
        with open(FOLDER / "log", "w+") as log:
            done = child(environment, "--work", str(findings), *libfuzzer, stdout=log, stderr=subprocess.STDOUT)
            log.seek(0)
            output = log.read()
        runs = re.findall(r"stat::number_of_executed_units: (\d+)|^#(\d+)\t", output, re.MULTILINE)
        executions += max((int(a or b) for a, b in runs), default=0)
        if done.returncode:
            crashes += 1
            (findings / f"ended-{crashes}.txt").write_text(output[-20_000:])
            print(f"a process ended with {done.returncode}: {findings}/ended-{crashes}.txt", flush=True)
            if not runs:
                break
    found = [path.with_suffix("") for path in sorted(findings.glob("*.txt")) if path.with_suffix("").exists()]
    for path in found:
        child(environment, "--reduce", str(path), str(max(5, seconds / 5 / len(found))), stdout=subprocess.DEVNULL)
        print(f"\n{path}\n{path.with_suffix('.txt').read_text()}")
    print(f"\n{seconds:.0f} s, {executions} calls, {len(found)} findings, {crashes} processes ended", flush=True)
    return len(found) + crashes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="how long (default: half an hour)")
    parser.add_argument("--sanitize", action="store_true", help="with the address sanitizer, instruction sets alone")
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="judge findings with the package in use")
    parser.add_argument("--work", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.add_argument("--reduce", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[1:], Path(options.work[0]))
    elif options.reduce:
        simplify(Path(options.reduce[0]), float(options.reduce[1]))
    elif options.replay:
        sys.exit(sum(judged(path.read_bytes()) is not None for path in options.replay) > 0)
    else:
        sys.exit(fuzz(options.seconds, options.sanitize) > 0)


if __name__ == "__main__":
    main()
