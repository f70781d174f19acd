"""The command `gpufan doctor`. It finds the faults of this box, and names the commands that mend the faults.

`look` gathers facts, `judge` makes findings from the facts, and `show` prints the findings. Facts and findings are
plain values.
"""
