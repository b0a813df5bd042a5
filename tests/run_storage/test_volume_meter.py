"""What readings mean: corrections, peaks, fullness; and when the sampler looks."""

from __future__ import annotations

import errno
from collections.abc import Callable

from volume_world import GIB, MIB, wait_until

from runomics.ports import Usage
from runomics.run_storage.meter import RESERVE_PER_FILE_BYTES, UNCOUNTED, Meter, Reading
from runomics.run_storage.sampler import Sampler


class ListedGauge:
    """Answers with what it was given; the last one over and over."""

    def __init__(self, *readings: Reading, flushed: Reading | None = None) -> None:
        self.readings = list(readings)
        self.flushed = flushed

    def read(self) -> Reading:
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def flush(self) -> None:
        if self.flushed is not None:
            self.readings = [self.flushed]


def meter_of(gauge: ListedGauge, limit_bytes: int | None = None) -> Meter:
    return Meter(gauge, limit_bytes, peak_bytes=0, was_full=False, reserve_per_file_bytes=RESERVE_PER_FILE_BYTES)


def take_next(meter: Meter) -> bool:
    reading = meter.read()
    assert reading is not None
    return meter.take(reading)


def test_the_reserve_of_unwritten_files_is_taken_off() -> None:
    meter = meter_of(ListedGauge(Reading(0, GIB, 3), Reading(1000 * (24 << 10), GIB, 1003)))
    take_next(meter)
    meter.saw_closes(1000)
    take_next(meter)
    assert meter.usage().used_bytes == 1000 * 4096


def test_new_inodes_that_were_never_closed_after_writing_reserve_nothing() -> None:
    meter = meter_of(ListedGauge(Reading(0, GIB, 3), Reading(100 * MIB, GIB, 5003)))
    take_next(meter)
    take_next(meter)
    assert meter.usage().peak_bytes == 100 * MIB


def test_after_an_exact_reading_nothing_is_taken_off() -> None:
    meter = meter_of(ListedGauge(Reading(0, GIB, 3), Reading(24 * MIB, GIB, 1003), flushed=Reading(4 * MIB, GIB, 1003)))
    take_next(meter)
    meter.saw_closes(UNCOUNTED)
    assert meter.sample_exactly() == Usage(4 * MIB, 24 * MIB - 1000 * RESERVE_PER_FILE_BYTES, GIB, None)
    assert not meter.needs_exact()


def test_a_volume_that_only_looks_full_wants_an_exact_reading_first() -> None:
    meter = meter_of(
        ListedGauge(Reading(0, GIB, 3), Reading(GIB - 4096, 4096, 10_003), flushed=Reading(GIB - 4096, 4096, 10_003)),
        GIB,
    )
    take_next(meter)
    meter.saw_closes(UNCOUNTED)
    take_next(meter)
    assert (meter.usage().was_full, meter.needs_exact_now()) == (False, True)
    assert meter.sample_exactly().was_full


def test_fullness_and_peak_outlive_the_files() -> None:
    meter = meter_of(ListedGauge(Reading(GIB - 4096, 4096, 4), Reading(0, GIB, 3)), GIB)
    take_next(meter)
    take_next(meter)
    assert meter.usage() == Usage(0, GIB - 4096, GIB, GIB, was_full=True)


def test_usage_moves_by_one_percent_or_64_mib() -> None:
    steps = [10 * GIB, 10 * GIB + 63 * MIB, 10 * GIB + 65 * MIB, 10 * GIB + 65 * MIB]
    meter = meter_of(ListedGauge(*(Reading(step, GIB) for step in steps)))
    assert [take_next(meter) for _ in steps] == [True, False, True, False]


def test_a_closed_meter_reads_no_more() -> None:
    meter = meter_of(ListedGauge(Reading(MIB, GIB)))
    take_next(meter)
    meter.close()
    assert meter.read() is None
    assert meter.usage().used_bytes == MIB


def sampler_with(on_lost: Callable[[str], None], persisted: list[Usage]) -> Sampler:
    return Sampler(
        persist=lambda run_uuid, usage: persisted.append(usage),
        want_exact=lambda run_uuid: None,
        on_full=lambda run_uuid: None,
        on_lost=on_lost,
        watches=False,
    )


def test_a_sampler_without_news_sees_what_stays_and_persists_it() -> None:
    persisted: list[Usage] = []
    sampler = sampler_with(lambda run_uuid: None, persisted)
    meter = meter_of(ListedGauge(Reading(0, GIB, 3), Reading(MIB, GIB, 3)))
    sampler.add("run", meter)
    assert wait_until(lambda: meter.usage().peak_bytes == MIB)
    sampler.close()
    assert persisted[-1].peak_bytes == MIB


def test_a_volume_that_cannot_be_read_is_told_once_and_harms_no_other() -> None:
    class BrokenGauge(ListedGauge):
        def read(self) -> Reading:
            raise OSError(errno.EIO, "broken")

    lost: list[str] = []
    sampler = sampler_with(lost.append, [])
    sampler.add("broken", meter_of(BrokenGauge(Reading(0, 0))))
    meter = meter_of(ListedGauge(Reading(0, GIB, 3), Reading(MIB, GIB, 3)))
    sampler.add("run", meter)
    assert wait_until(lambda: meter.usage().peak_bytes == MIB)
    sampler.close()
    assert lost == ["broken"]
