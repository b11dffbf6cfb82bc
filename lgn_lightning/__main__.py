"""``python -m lgn_lightning``: the command ``lgn`` where it is not on the path."""

import sys

from lgn_lightning.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
