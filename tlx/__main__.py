"""`python -m tlx`: the command line, where `tlx` itself is not on the PATH."""

import sys

from tlx.cli import main

if __name__ == "__main__":
    sys.exit(main())
