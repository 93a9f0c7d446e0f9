"""`python -m rfray.sweep`: the same as `rfray sweep`."""

import sys

from rfray.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
