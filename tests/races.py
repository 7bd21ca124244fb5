"""Racing: the same moment, several threads, a database connection each."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def run_at_once(functions: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Call all functions at the same moment; return what each returned or raised, in order."""
    barrier = threading.Barrier(len(functions))
    results: list[T | Exception] = [RuntimeError("never ran")] * len(functions)

    def work(index: int) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=10)
            results[index] = functions[index]()
        except Exception as error:  # noqa: BLE001 - the test looks at what was raised
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return results
