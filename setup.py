"""Build the kernels: the C text once for each instruction set and dtype, and the Cython drivers over them.

Without a working C compiler the package installs all the same, and runs on Numba or NumPy; LOSSFAST_REQUIRE_EXT=1 makes
that an error. LOSSFAST_CFLAGS adds flags (sanitizers, -g).
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path("lossfast/kernels")
HEADERS = [str(path) for path in sorted(KERNELS.glob("*.h"))]
REQUIRED = os.environ.get("LOSSFAST_REQUIRE_EXT", "") not in ("", "0")

# Never -ffast-math; contraction is off because it differs between compilers: the kernels say fma where they mean it.
FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-ffp-contract=off", "-fno-lto", "-g0", "-Wno-psabi"]

AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"]


def instruction_sets() -> list[tuple[str, int, list[str]]]:
    """(name, bits of a vector, flags), slowest first."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return [("baseline", 128, ["-msse2"]), ("avx2", 256, AVX2), ("avx512", 512, AVX512)]
    if machine in ("aarch64", "arm64"):
        return [("neon", 128, [])]
    return [("baseline", 0, [])]


class BuildKernels(build_ext):
    """Compile each (instruction set, dtype) of kernels.c with its own flags, beside the extension's own sources."""

    def build_extensions(self) -> None:
        if self.compiler.compiler_type == "msvc":
            isas, flags = [("baseline", 0, [])], ["/std:c11", "/O2", "/fp:precise"]
        else:
            isas, flags = instruction_sets(), [*FLAGS, *shlex.split(os.environ.get("LOSSFAST_CFLAGS", ""))]
        for extension in self.extensions:
            extension.extra_compile_args = flags
        try:
            objects = self.compile_tables(isas, flags)
        except Exception as error:
            if REQUIRED:
                raise
            print(f"lossfast: the C kernels could not be compiled ({error}); going on without them", file=sys.stderr)
            self.extensions = []
            return
        for extension in self.extensions:
            if extension.name.endswith("buffers"):
                extension.extra_objects = objects
        super().build_extensions()

    def compile_tables(self, isas: list, flags: list[str]) -> list[str]:
        names = " ".join(f"X({name})" for name, _, _ in isas)
        jobs = [("dispatch.c", "", [("LF_ISAS(X)", names)], []), ("convert.c", "", [], [])]
        for name, bits, isa_flags in isas:
            for dtype in (64, 32):
                macros = [("LF_ISA", name), ("LF_DTYPE", str(dtype)), ("LF_LANES", str(max(1, bits // dtype)))]
                jobs.append(("kernels.c", f"{name}{dtype}", macros, isa_flags))

        def compile_one(job: tuple) -> list[str]:
            source, tag, macros, isa_flags = job
            return self.compiler.compile(
                [str(KERNELS / source)],
                output_dir=str(Path(self.build_temp) / "tables" / tag),
                macros=macros,
                include_dirs=[str(KERNELS)],
                extra_postargs=[*flags, *isa_flags],
                depends=HEADERS,
            )

        Path(self.build_temp).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [name for names in pool.map(compile_one, jobs) for name in names]


def extensions() -> list[Extension]:
    try:
        from Cython.Build import cythonize
    except ImportError:
        if REQUIRED:
            raise
        print("lossfast: Cython is not installed; going on without the compiled kernels", file=sys.stderr)
        return []
    found = [
        Extension(
            f"lossfast.kernels.{name}",
            [f"lossfast/kernels/{name}.pyx"],
            depends=HEADERS,
            include_dirs=[str(KERNELS), numpy.get_include()],
            define_macros=[
                ("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"),
            ],
        )
        for name in ("buffers", "pointwise", "rowwise", "quick")
    ]
    found = cythonize(found, language_level=3)
    for extension in found:  # cythonize() drops it
        extension.optional = not REQUIRED
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
