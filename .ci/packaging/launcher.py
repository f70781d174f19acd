#!/usr/lib/gpufan/bin/python3 -I
"""The program gpufan of the package."""

import os
import sys

sys.dont_write_bytecode = True  # postinst.sh compiles the code

try:
    import msgspec  # noqa: F401  # the only package with code for one Python and one machine; imported late elsewhere

    from gpufan.cli.main import main
except ImportError as error:
    here = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {os.uname().machine}"
    remedy = "install a newer package of gpufan, or gpufan from its source"
    sys.exit(f"gpufan: this package does not work with {here} ({error}): {remedy}")

main()
