"""Run the command line without its script: `python -m sync_defs.cli`."""

import sys

from sync_defs.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
