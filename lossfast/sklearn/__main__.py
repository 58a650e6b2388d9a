"""``python -m lossfast.sklearn script.py ...`` runs a program with scikit-learn patched."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence

from .patching import TESTED, PatchError, patch

EXAMPLES = """\
examples:
  python -m lossfast.sklearn train.py --epochs 3
  python -m lossfast.sklearn -m package.train --epochs 3
  python -m lossfast.sklearn -m pytest --pyargs sklearn._loss

What follows the program is given to it. Processes that it starts are not patched, but forked ones.
Exit codes: the program's; 2 if scikit-learn cannot be patched (the program has not been started then).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Patch scikit-learn and run the program; return 2 if that cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m lossfast.sklearn",
        description="Run a Python program with scikit-learn's estimators computing their losses with lossfast "
        f"(tested with scikit-learn {', '.join(TESTED)}).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [-h] (script.py | -m module) [arguments ...]",
    )
    parser.add_argument("-m", dest="module", action="store_true", help="the program is a module, found as by python -m")
    parser.add_argument("program", help="the script, a directory or zip file with __main__.py, or the module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the program is given")
    args = parser.parse_args(argv)
    try:
        patch()
    except (PatchError, ImportError) as error:
        print(f"lossfast.sklearn: error: {error}", file=sys.stderr)
        return 2
    sys.argv = [args.program, *args.arguments]
    if args.module:
        runpy.run_module(args.program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(args.program))
        runpy.run_path(args.program, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
