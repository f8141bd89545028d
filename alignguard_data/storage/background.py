"""A background thread, so encoding and saving overlap with rendering."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class BackgroundThread:
    """Runs jobs in order in one thread, with at most one pending.

    A context manager whose exit waits for the last job. A job's exception is raised by the next
    ``submit`` or by the exit.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._last: Future[None] | None = None

    def submit(self, job: Callable[[], None]) -> None:
        """Wait for the previous job, then start ``job``.

        Args:
            job: what to run; it takes and returns nothing.
        """
        self._settle()
        self._last = self._pool.submit(job)

    def _settle(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> "BackgroundThread":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._settle()
        finally:
            self._pool.shutdown()
