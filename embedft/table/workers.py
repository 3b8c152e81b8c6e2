"""Worker processes that read blocks: bytes go in, arrays come out.

They are plain child processes that import only this folder, so they load neither the caller's main
module nor torch.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from embedft.errors import InputError
from embedft.table.block import Block, BlockReader
from embedft.table.settings import ReadSettings


def read_blocks(blocks: Iterable[bytes], settings: ReadSettings, workers: int) -> Iterator[Block]:
    """Reads blocks on several processes; the results come in the order of the blocks.

    Args:
        blocks: Read when a process is free, so that few are in memory at a time.
        settings: As for :class:`~embedft.table.block.BlockReader`.
        workers: Processes; 0 reads in this process.

    Raises:
        InputError: A process was killed.
        RuntimeError: A process ended in an error, which it printed.
    """
    if workers == 0:
        yield from map(BlockReader(settings), blocks)
        return
    processes = [_start() for _ in range(workers)]
    threads = ThreadPoolExecutor(workers)  # one waits for each process
    free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()

    def read(block: bytes) -> Block:
        process = free.get()
        try:
            _send(process, block)
            return _receive(process)
        finally:
            free.put(process)

    try:
        for process in processes:
            _send(process, settings)
            free.put(process)
        waiting: deque[Future[Block]] = deque()
        for block in blocks:
            waiting.append(threads.submit(read, block))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for process in processes:
            process.kill()
        threads.shutdown(cancel_futures=True)
        for process in processes:
            process.communicate()


# Takes this process's path before any import, so files of the current folder are no modules.
_WORKER = """
import sys
sys.path[:] = sys.argv[1:]
from embedft.table.workers import main
main()
"""


def _start() -> subprocess.Popen[bytes]:
    path = [entry or os.getcwd() for entry in sys.path]
    one_thread = {"TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, *path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | one_thread,
    )


def _send(process: subprocess.Popen[bytes], content: ReadSettings | bytes) -> None:
    assert process.stdin is not None
    try:
        pickle.dump(content, process.stdin, protocol=5)
        process.stdin.flush()
    except BrokenPipeError:
        raise _ended(process) from None


def _receive(process: subprocess.Popen[bytes]) -> Block:
    assert process.stdout is not None
    try:
        block: Block = pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError):
        raise _ended(process) from None
    return block


def _ended(process: subprocess.Popen[bytes]) -> Exception:
    status = process.wait()
    if status < 0:
        return InputError(
            "a process that reads the input was killed: out of memory? Free memory and try again"
        )
    return RuntimeError(f"a process that reads the input ended with status {status}")


def main() -> None:
    """The worker: reads settings, then blocks, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    stream = sys.stdin.buffer
    read = BlockReader(pickle.load(stream))
    while True:
        try:
            block = pickle.load(stream)
        except EOFError:
            return
        pickle.dump(read(block), sys.stdout.buffer, protocol=5)
        sys.stdout.buffer.flush()
