"""`python -m gradwise`: the command line."""

import sys

from gradwise.cli import main

if __name__ == "__main__":
    sys.exit(main())
