"""Is there a network? Asked before a library that would try for minutes."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

# A gateway's refusal is no answer of the server behind it.
_OF_A_GATEWAY = frozenset((403, 407, 502, 503, 504))


def answers(url: str, seconds: float) -> bool:
    """Whether a server answers within some seconds, name look-up included; proxies of the environment are used.

    Args:
        url: of the server.
        seconds: to wait.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
        except urllib.error.HTTPError as error:
            if error.code in _OF_A_GATEWAY:
                return
        except OSError:
            return
        answered.set()

    # In a thread of its own: looking up a name has no time limit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
