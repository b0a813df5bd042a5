"""Whose turn it is: lanes alternate, a cleared lane is quiet, a batch ends once."""

from __future__ import annotations

import threading

from runomics.scheduler.transfer_lanes import Batch, Lanes


def test_lanes_take_turns() -> None:
    lanes = Lanes(1)
    gate, over = threading.Event(), threading.Event()
    order: list[str] = []
    lanes.submit("gate", gate.wait)
    for number in range(3):
        lanes.submit("a", lambda number=number: order.append(f"a{number}"))
    for number in range(3):
        lanes.submit("b", lambda number=number: order.append(f"b{number}"))
    lanes.submit("c", lambda: order.append("c0"))
    lanes.submit("a", over.set)
    gate.set()
    assert over.wait(10)
    lanes.stop()
    assert order == ["a0", "b0", "c0", "a1", "b1", "a2", "b2"]


def test_as_many_threads_run_as_there_are_and_jobs_ask_for() -> None:
    lanes = Lanes(4)
    together = threading.Barrier(4)
    done = threading.Semaphore(0)

    def meet() -> None:
        together.wait(10)
        done.release()

    for _ in range(3):
        for lane in range(4):
            lanes.submit(lane, meet)
        for _ in range(4):
            assert done.acquire(timeout=10)
    lanes.stop()


def test_a_cleared_lane_runs_nothing_more_and_others_go_on() -> None:
    lanes = Lanes(2)
    begun, gate, other = threading.Event(), threading.Event(), threading.Event()
    ran: list[str] = []

    def slow() -> None:
        begun.set()
        gate.wait(10)
        ran.append("slow")

    lanes.submit("a", slow)
    assert begun.wait(10)
    lanes.submit("b", lambda: gate.wait(10) and None)
    for _ in range(5):
        lanes.submit("a", lambda: ran.append("late"))
    lanes.submit("b", other.set)
    clearing = threading.Thread(target=lanes.clear, args=("a",))
    clearing.start()
    clearing.join(0.05)
    assert clearing.is_alive(), "it must wait for what is running"
    gate.set()
    clearing.join(10)
    assert ran == ["slow"]
    assert other.wait(10)
    lanes.stop()


def test_a_job_may_clear_its_own_lane() -> None:
    lanes = Lanes(1)
    over = threading.Event()

    def clear() -> None:
        lanes.clear("a")
        over.set()

    lanes.submit("a", clear)
    assert over.wait(10)
    lanes.stop()


def test_a_job_that_fails_takes_no_thread_with_it() -> None:
    lanes = Lanes(1)
    over = threading.Event()

    def fail() -> None:
        raise RuntimeError("on purpose")

    lanes.submit("a", fail)
    lanes.submit("a", over.set)
    assert over.wait(10)
    lanes.stop()


def test_a_batch_ends_once_after_its_last_job_and_not_while_it_is_filled() -> None:
    lanes = Lanes(4)
    ends: list[int] = []
    over = threading.Event()
    ran: list[int] = []

    def end() -> None:
        ends.append(len(ran))
        over.set()

    batch = Batch(lanes, "a", end)
    batch.add(lambda: ran.append(0))
    while not ran:
        threading.Event().wait(0.001)
    assert ends == []
    for number in range(1, 50):
        batch.add(lambda number=number: ran.append(number))
    batch.add(lambda: batch.add(lambda: ran.append(50)))
    batch.release()
    assert over.wait(10)
    lanes.stop()
    assert ends == [51]


def test_an_empty_batch_ends_when_it_is_released() -> None:
    ends: list[None] = []
    batch = Batch(Lanes(1), "a", lambda: ends.append(None))
    batch.release()
    assert ends == [None]
