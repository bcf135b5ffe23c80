"""`python -m trcgl` is `trcgl`."""

import sys

from trcgl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
