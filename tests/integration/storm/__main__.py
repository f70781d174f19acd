"""Print what does not hold in a storm of faults.

    python -m tests.integration.storm [--seed N] [--faults N] [--log FILE]

The times in brackets are those of gpufan's log.
"""

import argparse
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.integration.storm.process import Storm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--log", type=Path, help="copy the log of gpufan to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpufan-storm-") as name:
        storm = Storm(Path(name), options.seed, options.faults)
        begin_s = time.monotonic()
        try:
            print(*storm.run(), sep="\n")
        finally:
            storm.close()
            if options.log:
                shutil.copyfile(storm.log, options.log)
        faults, took_s = sum(storm.scene.happened.values()), time.monotonic() - begin_s
        print(f"{faults} faults and signals in {storm.scene.now_s:.0f} s, which took {took_s:.0f} s")
        print("ends of the process:", dict(storm.ends))
        errors = Counter(line for line in storm.log.read_text().splitlines() if line.startswith("gpufan: "))
        print("errors:", *(f"{count} x {line}" for line, count in errors.most_common(20)), sep="\n  ")


if __name__ == "__main__":
    main()
