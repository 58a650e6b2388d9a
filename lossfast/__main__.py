"""``python -m lossfast`` is the command ``lossfast``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
