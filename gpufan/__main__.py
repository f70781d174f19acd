"""`python -m gpufan` is the command `gpufan`."""

from gpufan.cli import main

main()
