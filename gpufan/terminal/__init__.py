"""What a person sees in a terminal: log lines, live table, watch, tables."""
