"""`gpufan doctor`: finds what is wrong on this box, and names the commands that help.

`look` gathers facts, `judge` makes findings from them, `show` prints the findings. Facts and findings are plain values.
"""
