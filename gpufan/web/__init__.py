"""The page of gpufan in a browser: `gpufan web`. The daemon imports nothing of this."""
