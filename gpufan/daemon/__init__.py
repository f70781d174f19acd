"""The loop that joins sense, decide, act and report: workers, threads, sd_notify, and `gpufan run` itself."""
