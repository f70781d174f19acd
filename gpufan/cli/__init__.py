"""The command line, and the only place for click: parse, call one function, print."""
