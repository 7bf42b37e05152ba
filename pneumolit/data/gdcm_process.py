"""DICOM pixels that GDCM has to unpack, in a process of its own: on a damaged file its C++ code can crash.

`python -m pneumolit.data.gdcm_process` answers files on standard input with pixels on standard output, until the input
ends; `decode` starts one and starts another after a crash.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import subprocess
import sys
import threading
from typing import IO

import numpy as np

from pneumolit.data.film import ImageError

_LENGTH = 8  # bytes in which the length of a message stands before it
_PIXELS, _REASON = b"p", b"r"
_MOST_MEMORY = 4 << 30  # of the process: a film of 50 megapixels and 16 bits takes a tenth, GDCM's libraries the rest


class _Decoder:
    """The process; one film at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        atexit.register(self.close)

    def decode(self, data: bytes) -> np.ndarray:
        with self._turn:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            try:
                _send(process.stdin, b"", data)
                kind, answer = _receive(process.stdout)
            except (OSError, EOFError) as error:
                self.close()
                raise ImageError("its compressed pixels are damaged: the decoder crashed on them") from error
        if kind == _REASON:
            raise ImageError(answer.decode("utf-8", "replace"))
        return np.asarray(np.load(io.BytesIO(answer), allow_pickle=False))

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            # Its standard error is lost on purpose: the libraries print their own words on damaged files.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pneumolit.data.gdcm_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for the command, which ends this process itself
            )
        return self._process

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()


_decoder = _Decoder()


def decode(data: bytes) -> np.ndarray:
    """Pixels of a DICOM file, as pydicom gives them.

    Args:
        data: all bytes of the file.

    Raises:
        ImageError: they cannot be unpacked, or the decoder crashed.
    """
    return _decoder.decode(data)


def _send(pipe: IO[bytes], kind: bytes, content: bytes) -> None:
    pipe.write(len(content).to_bytes(_LENGTH, "little") + kind)
    pipe.write(content)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    head = pipe.read(_LENGTH + 1)
    content = pipe.read(int.from_bytes(head[:_LENGTH], "little"))
    if len(head) < _LENGTH + 1 or len(content) < int.from_bytes(head[:_LENGTH], "little"):
        raise EOFError
    return head[_LENGTH:], content


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer files until there are no more."""
    from pneumolit.data.dicom import as_image_errors, unpack

    while head := requests.read(_LENGTH):
        data = requests.read(int.from_bytes(head, "little"))
        try:
            with as_image_errors():
                pixels = unpack(data)
        except ImageError as error:
            _send(answers, _REASON, str(error).encode())
            continue
        out = io.BytesIO()
        np.save(out, pixels, allow_pickle=False)
        _send(answers, _PIXELS, out.getvalue())


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _limit_memory()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    serve(sys.stdin.buffer, answers)
