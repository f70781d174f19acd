"""The command line. Each command parses its options, calls one function and prints. Only this package uses click."""
