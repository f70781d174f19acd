"""gpufan on many boxes: what the tools that look after them need for it."""
