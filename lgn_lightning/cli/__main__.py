"""``python -m lgn_lightning.cli``, as in 0.1: ``python -m lgn_lightning``."""

import sys

from lgn_lightning.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
