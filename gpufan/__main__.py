"""`python -m gpufan` is the command `gpufan`."""

from gpufan.cli.main import main

main()
