#!/usr/lib/gpufan/bin/python3 -I
"""The program gpufan of the package."""

import sys

try:
    from gpufan.cli.main import main
except ImportError as error:
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(f"gpufan: this package does not work with {python} ({error}): install a newer package of gpufan")

main()
