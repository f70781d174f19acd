"""`gpufan doctor`: finds the faults of this box, and names the commands that mend them.

`look` gathers facts, `judge` makes findings of the facts, `show` prints the findings. Facts and findings are plain
values.
"""
