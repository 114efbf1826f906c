"""What was read of the platform, as Prometheus's metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, product
from math import inf

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tracking.reads.measured import Active, By, Measured
from tracking.states import FINISHED
from tracking.totals import BOUNDS, Ended, Measure, Total

MOST_ORGANIZATIONS = 20
MOST_TYPES = 200
MOST_QUEUES = 200
STATES = ("waiting", "held", "running")

Values = Iterable[tuple[Sequence[str], float]]


class OfRows(Collector):
    """The metrics of what was read; None: it could not be."""

    def __init__(self, measured: Measured | None, *, organizations: bool) -> None:
        self._measured = measured
        self._organizations = organizations

    def collect(self) -> Iterator[Metric]:
        read = self._measured
        yield GaugeMetricFamily("celeriac_up", "Whether the rows could be read.", read is not None)
        if read is not None:
            yield from _now(read)
            yield from _so_far(read)
            if self._organizations:
                most = read.active[By.ORGANIZATION][:MOST_ORGANIZATIONS]
                states = ("organization", "state")
                yield _gauge("organization_jobs", "Of those with most waiting jobs.", states, _by_state(most))


def _now(read: Measured) -> Iterator[Metric]:
    queues, types = _queues(read), read.active[By.TYPE][:MOST_TYPES]
    yield _gauge("capped", "Whether more jobs are active than are read.", (), [((), read.is_capped)])
    yield _gauge("jobs", "Jobs that are not finished.", ("queue", "state"), _by_state(queues))
    oldest = [((each.name,), each.oldest.total_seconds() if each.oldest else 0.0) for each in queues]
    yield _gauge("oldest_waiting_seconds", "How long the first job has waited that could run.", ("queue",), oldest)
    # A queue whose last worker has died has none, and is not left out.
    served = {each.queue: (each.workers, each.slots) for each in read.served}
    served = {**{each.name: (0, 0) for each in queues}, **served}
    workers, slots = ([((name,), each[place]) for name, each in served.items()] for place in (0, 1))
    yield _gauge("queue_workers", "Living workers that take jobs of the queue.", ("queue",), workers)
    yield _gauge("queue_slots", "Jobs of the queue that they can run at once.", ("queue",), slots)
    held = [((each.name,), each.total) for each in read.active[By.HOLD]]
    yield _gauge("held_jobs", "Jobs that wait for something.", ("reason",), held)
    known = [(("alive",), read.alive), (("silent",), read.silent)]
    yield _gauge("workers", "Workers that are known.", ("state",), known)
    yield _gauge("leader", "Whether a worker leads.", (), [((), read.is_led)])
    yield _gauge("type_jobs", "Jobs that are not finished.", ("type", "state"), _by_state(types))
    circuits = [((each.job_type, "half_open" if each.is_half_open else "open"), each.number) for each in read.circuits]
    yield _gauge("circuits", "Circuits that are not closed.", ("type", "state"), circuits)
    yield _gauge("unsent_jobs", "Jobs that the broker has not confirmed.", (), [((), read.unsent)])
    first = read.oldest_unsent.total_seconds() if read.oldest_unsent else 0.0
    yield _gauge("oldest_unsent_seconds", "How long the first of them has been there.", (), [((), first)])
    yield _gauge("uncounted_events", "What has happened and is not counted yet.", (), [((), read.uncounted)])


def _queues(read: Measured) -> Sequence[Active]:
    """Those with jobs, and those that workers serve: who scales by a queue's jobs is told 0, and not nothing."""
    busy = read.active[By.QUEUE][:MOST_QUEUES]
    idle = {each.queue for each in read.served} - {each.name for each in read.active[By.QUEUE]}
    return [*busy, *(Active(name, 0, 0, 0, 0, None) for name in sorted(idle))]


def _so_far(read: Measured) -> Iterator[Metric]:
    totals: dict[Measure, list[Total]] = defaultdict(list)
    for total in (*read.totals, *_nothing_yet(read.totals)):
        totals[total.measure].append(total)
    pair = ("type", "queue")
    yield _counter("jobs_created", "Jobs that were created.", pair, totals[Measure.CREATED])
    yield _counter("jobs_ended", "Jobs that ended.", (*pair, "outcome"), totals[Measure.ENDED])
    yield _counter("attempts", "Attempts that ended.", (*pair, "outcome"), totals[Measure.ATTEMPTS])
    yield _counter("refused_messages", "Messages that were not run.", (*pair, "reason"), totals[Measure.REFUSED])
    waited = "From when a job could run to its start."
    yield _histogram("job_wait_seconds", waited, totals[Measure.WAITED])
    yield _histogram("job_run_seconds", "From the start of an attempt to its end.", totals[Measure.RAN])


def _nothing_yet(totals: Sequence[Total]) -> Iterator[Total]:
    """Zero for each way to end that a type and queue has not seen: Prometheus counts no increase from nothing to five.

    So the first workers that die of a type would raise no alarm.
    """
    ways = [*product([Measure.ENDED], FINISHED), *product([Measure.ATTEMPTS], Ended)]
    seen = {(each.measure, each.job_type, each.queue, each.outcome) for each in totals}
    for job_type, queue in sorted({(each.job_type, each.queue) for each in totals}):
        for measure, outcome in ways:
            if (measure, job_type, queue, outcome) not in seen:
                yield Total(measure, job_type, queue, outcome, inf, 0, 0.0)


def _by_state(loads: Sequence[Active]) -> Values:
    return (((load.name, state), getattr(load, state)) for load in loads for state in STATES)


def _gauge(name: str, help_text: str, labels: Sequence[str], values: Values) -> Metric:
    family = GaugeMetricFamily(f"celeriac_{name}", help_text, labels=labels)
    for named, value in values:
        family.add_metric(named, value)
    return family


def _counter(name: str, help_text: str, labels: Sequence[str], totals: Sequence[Total]) -> Metric:
    family = CounterMetricFamily(f"celeriac_{name}", help_text, labels=labels)
    for total in totals:
        family.add_metric((total.job_type, total.queue, total.outcome)[: len(labels)], total.number)
    return family


def _histogram(name: str, help_text: str, totals: Sequence[Total]) -> Metric:
    """Of each type and queue; a bucket without a row has nothing in it."""
    family = HistogramMetricFamily(f"celeriac_{name}", help_text, labels=("type", "queue"))
    numbers: dict[tuple[str, str], dict[float, int]] = defaultdict(lambda: dict.fromkeys(BOUNDS, 0))
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for total in totals:
        pair = (total.job_type, total.queue)
        numbers[pair][total.up_to] = total.number
        seconds[pair] += total.seconds
    for pair, buckets in numbers.items():
        family.add_metric(pair, _cumulative(buckets), seconds[pair])
    return family


def _cumulative(buckets: Mapping[float, int]) -> Sequence[tuple[str, float]]:
    bounds = sorted(buckets)
    summed = accumulate(buckets[bound] for bound in bounds)
    return [(str(floatToGoString(bound)), number) for bound, number in zip(bounds, summed, strict=True)]  # type: ignore[no-untyped-call]
