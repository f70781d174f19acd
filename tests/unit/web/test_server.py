"""The end of the server."""

import subprocess
import sys

COMPUTES_FOR_EVER = """
import asyncio, threading
from gpufan.web.server import ServerThreads

threads = ServerThreads()

async def serve():
    asyncio.get_running_loop().set_default_executor(threads)
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)

asyncio.run(serve())
threads.end_process_if_busy()
"""


def test_the_process_does_not_wait_for_an_answer_that_is_computed() -> None:
    assert subprocess.run([sys.executable, "-c", COMPUTES_FOR_EVER], timeout=20, check=False).returncode == 0
