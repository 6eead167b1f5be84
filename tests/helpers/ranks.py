"""Processes of a group, played by threads over real connections."""

from __future__ import annotations

import secrets
import threading
import time

from xpnn.distributed.sockets import join, listen


def together(size, work, *, patience=30.0):
    """Call `work(group)` in a thread for each rank; return what each returned, or its error."""
    listeners, token = [listen("127.0.0.1") for _ in range(size)], secrets.token_bytes(16)
    addresses, found = [listener.getsockname() for listener in listeners], [None] * size

    def run(rank):
        group = join(listeners[rank], rank, addresses, token)
        try:
            found[rank] = work(group)
        except Exception as error:
            found[rank] = error
            group.fail(f"{type(error).__name__}: {error}")
        finally:
            time.sleep(0.1 if isinstance(found[rank], Exception) else 0.0)
            group.close()

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    assert not any(thread.is_alive() for thread in threads), "it hangs"
    return found
