"""Jobs in the background: in order, one at a time, none lost, errors raised where one looks."""

import threading

import pytest

from alignguard_data.storage.background import BackgroundThread


def test_jobs_run_in_order_and_leaving_waits_for_the_last():
    done: list[int] = []
    with BackgroundThread() as behind:
        for i in range(20):
            behind.submit(lambda i=i: done.append(i))
    assert done == list(range(20))


def test_a_job_overlaps_with_the_caller_but_not_with_the_next_job():
    release, second = threading.Event(), threading.Event()
    with BackgroundThread() as behind:
        behind.submit(lambda: release.wait(5) and None)
        waiting = threading.Thread(target=lambda: behind.submit(second.set))
        waiting.start()
        assert not second.wait(0.05), "the second job must not start before the first has ended"
        release.set()
        waiting.join(5)
    assert second.is_set()


def test_an_error_is_raised_by_the_next_submit():
    def fail() -> None:
        raise OSError(28, "full")

    with pytest.raises(OSError, match="full"), BackgroundThread() as behind:
        behind.submit(fail)
        behind.submit(lambda: None)
        pytest.fail("the second submit must raise")


def test_an_error_of_the_last_job_is_raised_on_leaving():
    def fail() -> None:
        raise OSError(28, "full")

    with pytest.raises(OSError, match="full"), BackgroundThread() as behind:
        behind.submit(fail)


def test_the_callers_own_error_wins():
    with pytest.raises(KeyboardInterrupt), BackgroundThread() as behind:
        behind.submit(lambda: None)
        raise KeyboardInterrupt
