"""Everything that a person sees in a terminal while gpufan runs: log lines, live table, watch, tables."""
