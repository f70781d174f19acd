"""`gpufan doctor`: what is wrong on this box, and what to do about it.

`probe` looks and `checks` judges: between the two stands `facts`, so that each judgement is a function of plain values.
"""
