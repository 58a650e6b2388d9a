"""The tests with the kernels built for the sanitizers: `python tests/sanitize.py`, or `make sanitize`.

``address``: AddressSanitizer and UndefinedBehaviorSanitizer under the tests named in `TESTS`, and a search for memory
that the kernels leak. ``thread``: ThreadSanitizer under calls from many threads at once, `hammer`. Both are built in
``build/sanitize``, and run on every instruction set; either ends with exit code 1 if anything is found. Nothing is
suppressed.

``--prove`` plants the errors in `PLANTED` in copies and ends with exit code 1 unless each is found.

What the sanitizers cannot see: vector loads under a mask (`r_load_part`), which compilers leave alone. For those there
are pages that may not be touched, on both sides of the arrays (fault 18 in ``test_faults.py``).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "sanitize"

#: Optimised a little: every load and store is still there, and the tests end in minutes.
COMMON = "-O1 -g -fno-omit-frame-pointer"
FLAGS = {
    # Python's own flags have -fwrapv, with which no overflow is found.
    "address": "-fno-wrapv -fsanitize=address,undefined,float-cast-overflow",
    "thread": "-fsanitize=thread",
    "plain": "",
}
RUNTIMES = {
    ("address", "gcc"): "libasan.so",
    ("thread", "gcc"): "libtsan.so",
    ("address", "clang"): "libclang_rt.asan-x86_64.so",
}

TESTS = [
    "test_faults",
    "test_plain_rows",
    "test_quick_calls",
    "test_registry",
    "test_interface",
    "test_fuzz",
    "test_threads",
    "test_capi",
    "test_backends_jobs",
]
#: Tests that cannot be run so, and why.
LEFT_OUT = {
    "test_20_without_memory": "the sanitizer reserves more addresses than the test allows",
    "test_25_a_header_that_lies": "the sanitizer reserves more addresses than the test allows",
    "test_25_a_path_that_cannot": "the sanitizer reserves more addresses than the test allows",
    "test_24_numba": "needs a process without the compiled backend",
    "test_23_an_instruction_set": "expects the last line of stderr for itself",
    "test_importing_lossfast_imports_neither": "the modules of a process are not the kernels' affair",
    "test_threadpoolctl": "the modules of a process are not the kernels' affair",
}

#: In a copy: (sanitizer, what the report says, file, what stands there, what is put in its place, what runs into it).
PLANTED = {
    "a whole vector loaded and stored where a part is left": (
        "address",
        "ERROR: AddressSanitizer",
        "rowstages.h",
        "enum { whole = 0 };",
        "enum { whole = 1 };",
        "lf.softmax(np.ones((1, 70), np.float32))",
    ),
    "a signed overflow": (
        "address",
        "runtime error: signed integer overflow",
        "convert.c",
        "return x > INT64_MAX ? INT64_MAX : (int64_t)x;",
        "return (int64_t)(x >> 1) + INT64_MAX;",
        "lf.cross_entropy(np.ones((2, 9)), np.array([3, 8], np.uint64), check=False)",
    ),
    "a number that two threads count up": (
        "thread",
        "WARNING: ThreadSanitizer: data race",
        "convert.c",
        "    switch (type) { EACH_TYPE(READ) }",
        "    static long numbers; numbers += n;\n    switch (type) { EACH_TYPE(READ) }",
        "",
    ),
}


# ------------------------------------------------------------------------------------------------------ building


def build(name: str, compiler: str, flags: str, changes: dict[str, tuple[str, str]] | None = None) -> Path:
    """A copy of the package and the tests, built with those flags; built anew only when something has changed."""
    folder = FOLDER / name
    ignored = shutil.ignore_patterns(
        "*.so", "*.c.html", "__pycache__", "*_api.h", "buffers.c", "pointwise.c", "quick.c", "rowwise.c"
    )
    fresh = folder.with_name(f"{name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for part in ("lossfast", "tests"):
        shutil.copytree(ROOT / part, fresh / part, ignore=ignored)
    for part in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "CITATION.cff"):
        shutil.copy(ROOT / part, fresh)
    for file, (right, wrong) in (changes or {}).items():
        path = fresh / "lossfast" / "kernels" / file
        text = path.read_text()
        if text.count(right) != 1:
            raise SystemExit(f"{right!r} is to be found once in {file}: adapt PLANTED to the code")
        path.write_text(text.replace(right, wrong))
    kernels = sorted((fresh / "lossfast" / "kernels").iterdir())
    digest = hashlib.sha256(f"{compiler} {flags}".encode())
    for path in [fresh / "setup.py", *kernels]:
        digest.update(path.read_bytes())
    stamp = folder / "stamp"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        for built in (folder / "lossfast" / "kernels").glob("*.so"):
            shutil.move(built, fresh / "lossfast" / "kernels")
    else:
        print(f"building {name}: {compiler} {flags}", flush=True)
        environment = {
            **os.environ,
            "CC": compiler,
            "LDSHARED": f"{compiler} -shared {' '.join(re.findall('-fsanitize=(?!fuzzer)[^ ]*', flags))}"
            + (" -shared-libasan" if compiler == "clang" and "address" in flags else ""),
            "LOSSFAST_REQUIRE_EXT": "1",
            "LOSSFAST_CFLAGS": flags,
        }
        subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=fresh, env=environment, check=True
        )
    (fresh / "stamp").write_text(digest.hexdigest())
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def environment_of(kind: str, compiler: str, folder: Path) -> dict[str, str]:
    """What a process needs that uses such a build."""
    names = [RUNTIMES[kind, compiler], "libstdc++.so.6"]  # the second for the exceptions of other people's C++
    runtimes = [subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip() for name in names]
    shutil.rmtree(folder / "reports", ignore_errors=True)
    (folder / "reports").mkdir()
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(runtimes),
        "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'tests'}",
        "PYTHONMALLOC": "malloc",  # or the interpreter's small blocks would hide what lies beside the kernels'
        "LOSSFAST_BACKEND": "compiled",
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:handle_segv=1:log_path={folder}/reports/asan",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "exitcode=66",
    }


def command(kind: str, *arguments: str) -> list[str]:
    # ThreadSanitizer wants its memory at fixed addresses.
    return [*(["setarch", "-R"] if kind == "thread" else []), sys.executable, *arguments]


# ------------------------------------------------------------------------------------------------------- running


def check_address(compiler: str, tests: list[str]) -> bool:
    """Whether nothing is found under the tests, and nothing of the kernels leaks."""
    folder = build(f"address-{compiler}", compiler, f"{COMMON} {FLAGS['address']}")
    environment = environment_of("address", compiler, folder)
    left_out = " and ".join(f"not {name}" for name in LEFT_OUT if name not in tests)
    files = [f"tests/{name}.py" for name in tests]
    options = ["-q", "-rf", "--tb=short", "-p", "no:cacheprovider", "--timeout", "1800", "-k", left_out]
    with open(folder / "reports" / "stderr", "w") as stderr:  # -s: or pytest would keep it to itself
        what = command("address", "-m", "pytest", "-s", *options, *files)
        done = subprocess.run(what, cwd=folder, env=environment, stderr=stderr)
    found = reports(folder)
    print("\n".join(found))
    return leaks(folder, environment) == [] and not found and done.returncode == 0


def reports(folder: Path) -> list[str]:
    """What has been reported, each place once; UndefinedBehaviorSanitizer goes on after a report."""
    texts = [path.read_text(errors="replace") for path in sorted((folder / "reports").iterdir())]
    undefined = {line for text in texts for line in re.findall(r"^.*runtime error: .*$", text, re.MULTILINE)}
    places = {line.split(" runtime error")[0]: line for line in sorted(undefined)}
    return [*places.values(), *(text for text in texts if "AddressSanitizer" in text)]


LEAK = """
import os, numpy as np, lossfast as lf
from lossfast._loss import inside, looped
for isa in lf.isas():
    lf.use_isa(isa)
    for loss in looped().values():
        for shape in ((3, 5), (40, 70), (2, 40_000)):
            x = np.ones(shape)[:, ::-1]
            ones = inside(loss, "target", x)
            targets = {"rowwise": (np.zeros(shape[0], int),), "pointwise": (ones,)}.get(loss.kind, ())
            if loss.kind == "rowwise" and not loss.labelled:
                targets = (x,)
            for y in targets or (None,):
                loss(x) if y is None else loss.value_and_grad(x, y)
print("whole")
"""


def leaks(folder: Path, environment: dict[str, str]) -> list[str]:
    """The leaks of memory that the kernels have asked for themselves (the interpreter keeps much to the end)."""
    environment = {**environment, "ASAN_OPTIONS": "detect_leaks=1", "LSAN_OPTIONS": "exitcode=0:max_leaks=0"}
    done = subprocess.run(command("address", "-c", LEAK), cwd=folder, env=environment, capture_output=True, text=True)
    if "whole" not in done.stdout or "LeakSanitizer has encountered" in done.stderr:
        return [done.stderr[-3000:]]
    found = re.findall(
        r"^(?:Direct|Indirect) leak .*\n +#0 .*\n +#1 .*/lossfast/kernels/.*\n", done.stderr, re.MULTILINE
    )
    print("\n".join(found) or "no leak of the kernels")
    return found


def check_thread(compiler: str, seconds: float) -> bool:
    """Whether no race is found."""
    folder = build(f"thread-{compiler}", compiler, f"{COMMON} {FLAGS['thread']}")
    environment = environment_of("thread", compiler, folder)
    done = subprocess.run(
        command("thread", str(folder / "tests" / "sanitize.py"), "--hammer", str(seconds)), env=environment
    )
    return done.returncode == 0


def prove(compiler: str, kinds: list[str]) -> bool:
    """Whether every planted error is found."""
    missed = []
    for kind in kinds:
        planted = {name: rest for name, (of, *rest) in PLANTED.items() if of == kind}
        changes = {file: (right, wrong) for _, file, right, wrong, _ in planted.values()}
        folder = build(f"planted-{kind}-{compiler}", compiler, f"{COMMON} {FLAGS[kind]}", changes)
        environment = environment_of(kind, compiler, folder)
        for name, (report, _, _, _, code) in planted.items():
            driver = str(folder / "tests" / "sanitize.py")
            what = ["-c", f"import numpy as np, lossfast as lf; {code}"] if code else [driver, "--hammer", "5"]
            done = subprocess.run(command(kind, *what), cwd=folder, env=environment, capture_output=True, text=True)
            found = report in done.stderr + "".join(reports(folder))
            print(f"{'found' if found else 'MISSED'}: {name} ({report})", flush=True)
            if not found:
                missed.append(name)
                print(done.stdout[-2000:], done.stderr[-2000:])
    return not missed


# -------------------------------------------------------------------------------------------------------- hammer


def hammer(seconds: float) -> None:
    """Calls from several threads at once, each in many slices over 1 to 7 threads of the pool.

    Inputs are shared, buffers are not; the number of threads and the instruction set change meanwhile, and Ctrl-C comes
    now and then.
    """
    import time

    import numpy as np

    import lossfast as lf
    from lossfast._loss import inside, looped
    from lossfast.backends import compiled

    signal.signal(signal.SIGINT, signal.default_int_handler)
    compiled.GRAIN, compiled.SLICE = 0, 256
    random = np.random.default_rng(0)
    inputs = [
        (x, random.integers(x.shape[1], size=len(x)), np.abs(x), random.random(len(x)))
        for shape in ((600, 3), (150, 70), (3, 40_000))
        for x in (random.normal(size=shape), np.asfortranarray(random.normal(size=shape).astype(np.float32))[:, ::-1])
    ]
    losses = list(looped().values())
    end, calls, interrupts = time.monotonic() + seconds, [0] * 4, 0
    wrong: list[tuple[object, ...]] = []

    def call(worker: int, number: int) -> None:
        x, labels, target, weight = inputs[number % len(inputs)]
        loss = losses[number // 3 % len(losses)]
        n_threads = 1 + (worker + number) % 7
        out = np.empty(x.shape, x.dtype)
        if loss.kind in ("function", "row_function"):
            loss.vjp(x, np.ones_like(loss(x, n_threads=n_threads)), n_threads=n_threads, out=out)
            return
        given = (x, labels if loss.kind == "rowwise" and loss.labelled else target)
        if loss.kind == "pointwise":
            given = (inside(loss, "pred", x), inside(loss, "target", target))
        options = {"sample_weight": weight, "n_threads": n_threads}
        value, _ = loss.value_and_grad(*given, grad_out=out, **options)
        again = loss(*given, **{**options, "n_threads": None})
        if not (np.isclose(value, again, rtol=1e-5) or value != value):
            wrong.append((loss.name, value, again))
        calls[worker] += 1

    def work(worker: int) -> None:
        number = worker
        try:
            while time.monotonic() < end:
                call(worker, number)
                number += 5
        except BaseException as error:
            wrong.append((worker, number, error))
            raise

    def disturb() -> None:
        number = 0
        while time.monotonic() < end:
            lf.set_num_threads(number % 7)
            lf.use_isa(lf.isas()[number % len(lf.isas())])
            number += 1
            time.sleep(0.01)
            if number % 20 == 0:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in (1, 2, 3)]
    threads.append(threading.Thread(target=disturb, daemon=True))
    for thread in threads:
        thread.start()
    while True:
        try:
            while time.monotonic() < end:
                call(0, calls[0] + interrupts)
            for thread in threads:
                thread.join()
            break
        except KeyboardInterrupt:
            interrupts += 1
    print(f"{sum(calls)} calls, {interrupts} interrupts", flush=True)
    if wrong:
        raise SystemExit(f"wrong: {wrong[:3]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="address|thread", help="which sanitizers (default: both)")
    parser.add_argument("--compiler", choices=("gcc", "clang"), default="gcc")
    parser.add_argument(
        "--tests", nargs="+", default=TESTS, help=f"under the address sanitizer (default: {' '.join(TESTS)})"
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long to hammer under the thread sanitizer")
    parser.add_argument("--prove", action="store_true", help="plant errors and see that each is found")
    parser.add_argument("--hammer", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hammer:
        hammer(options.hammer)
        return
    kinds = options.kinds or ["address", "thread"]
    if set(kinds) - {"address", "thread"}:
        parser.error(f"no such sanitizer: {' '.join(kinds)}")
    if options.prove:
        clean = prove(options.compiler, kinds)
    else:
        checks = {
            "address": lambda: check_address(options.compiler, options.tests),
            "thread": lambda: check_thread(options.compiler, options.seconds),
        }
        results = {kind: checks[kind]() for kind in kinds}
        for kind, found in results.items():
            print(f"{kind}: {'clean' if found else 'FOUND SOMETHING'}")
        clean = all(results.values())
    sys.exit(not clean)


if __name__ == "__main__":
    main()
