#!/bin/sh
# AArch64 without such a machine: builds the kernels for NEON and runs a Python command on them under user-mode emulation.
#
#     tests/aarch64.sh [command of python3 ...]      by default tests/hashes.py, in a shadow of the source tree
#
# Python and its libraries are the distribution's arm64 packages, NumPy and the rest wheels for arm64. setup.py itself
# runs under emulation, so that it builds what it would on the real thing; only the compiler it calls is native.
# Needs apt-get and dpkg (Debian or Ubuntu), qemu-aarch64 and a cross compiler; no root. BUILD says where all this goes,
# PYTHON which Python of this machine has pip (and lossfast), PACKAGES what else is to be installed for arm64 at first.
set -eu

source=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$source/build/aarch64}
python=${PYTHON:-python3}
apt=$build/apt
root=$build/root
site=$build/site
shadow=$build/source

qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || qemu=
for tool in "${qemu:-qemu-aarch64}" aarch64-linux-gnu-gcc apt-get dpkg; do
    command -v "$tool" >/dev/null || { echo "aarch64.sh: $tool is not installed" >&2; exit 77; }
done

# The distribution's packages, with a package database of our own, so that the machine's is left alone.
if [ ! -e "$root/.complete" ]; then
    echo "unpacking Python for arm64" >&2
    rm -rf "$apt" "$root"
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$root"
    : >"$apt/status"
    get() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User= \
            -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
            -o Debug::NoLocking=1 "$@"
    }
    get update
    get install --yes --download-only --no-install-recommends python3-minimal libpython3-stdlib libpython3-dev libstdc++6
    for package in "$apt"/cache/archives/*.deb; do
        dpkg -x "$package" "$root"
    done
    rm -rf "$apt"
    touch "$root/.complete"
fi
interpreter=$(find "$root/usr/bin" -name 'python3.*' | head -n 1)
version=${interpreter##*python}

if [ ! -e "$site/.complete" ]; then
    echo "installing NumPy for arm64" >&2
    rm -rf "$site"
    "$python" -m pip install --quiet --target "$site" --python-version "$version" --only-binary=:all: \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
        "setuptools>=77" "cython>=3.1" "numpy>=2.0" "ml-dtypes>=0.5" ${PACKAGES:-}
    touch "$site/.complete"
fi

# A copy of the sources, so that the C text which Cython makes for one architecture is not taken for the other's.
mkdir -p "$shadow"
find "$shadow" -type f ! -name '*.c' ! -name '*.so' ! -path "$shadow/build/*" -delete
(cd "$source" && find setup.py pyproject.toml README.md LICENSE lossfast tests benchmarks -type f \
    ! -name '*.so' ! -name '*.pyc' ! -name '*_api.h' ! -path 'lossfast/kernels/buffers.c' \
    ! -path 'lossfast/kernels/pointwise.c' ! -path 'lossfast/kernels/quick.c' ! -path 'lossfast/kernels/rowwise.c' -print0 |
    tar cf - --null --files-from=-) | tar xf - -C "$shadow"

emulated() {
    (cd "$shadow" && env -u LOSSFAST_ISA -u LOSSFAST_BACKEND PYTHONPATH="$site:$shadow" \
        CC="aarch64-linux-gnu-gcc -I$root/usr/include/python$version -idirafter $root/usr/include" \
        LOSSFAST_REQUIRE_EXT=1 "$qemu" -L "$root" "$interpreter" "$@")
}

echo "building lossfast for arm64" >&2
emulated setup.py --quiet build_ext --inplace >"$build/build.log" 2>&1 || { cat "$build/build.log" >&2; exit 1; }
if [ $# -gt 0 ]; then
    emulated "$@"
    exit
fi
emulated tests/hashes.py && exit
echo "the cases that differ from those of this machine:"
emulated tests/hashes.py --cases >"$build/cases.emulated"
(cd "$source" && "$python" tests/hashes.py --cases) >"$build/cases.native"
diff "$build/cases.native" "$build/cases.emulated" || :
exit 1
