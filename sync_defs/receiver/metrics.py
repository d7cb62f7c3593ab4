"""What a receiver counts, and the Prometheus text format 0.0.4.

Labels are names of known jobs, and codes and words of ours, so that no stranger can make new series, and nothing in
them needs escaping.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from sync_defs.inbox import Counts, EnqueueStatus

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_STATES: Final = ("ready", "leased", "later", "dead")
_Sample = tuple[Mapping[str, str], float]


class Metrics:
    """The counters of one process; they begin at 0 when it starts."""

    def __init__(self, jobs: Collection[str]) -> None:
        """Take the names of the jobs that take webhooks."""
        self._jobs = sorted(jobs)
        self._received: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()

    def count_received(self, job: str, status: EnqueueStatus) -> None:
        """Count a message that was answered 2xx."""
        self._received[job, status] += 1

    def count_refused(self, job: str, code: str) -> None:
        """Count a request that was refused; one for no known job has an empty name."""
        self._refused[job if job in self._jobs else "", code] += 1

    def text(self, *, under_way: int, depth: Mapping[str, Counts]) -> str:
        """Return all metrics; those of the queue are what the database holds, of known jobs."""
        received = [
            ({"job": job, "status": status}, self._received[job, status])
            for job in self._jobs
            for status in EnqueueStatus
        ]
        refused = [({"job": job, "code": code}, count) for (job, code), count in sorted(self._refused.items())]
        counts = {job: depth.get(job, Counts()) for job in self._jobs}
        rows = [
            ({"job": job, "state": state}, getattr(found, state)) for job, found in counts.items() for state in _STATES
        ]
        ages = [({"job": job}, found.oldest_due_age_s) for job, found in counts.items()]
        families = [
            _family(
                "sync_webhooks_received_total",
                "counter",
                "Messages that were stored, by outcome.",
                received,
            ),
            _family("sync_webhooks_refused_total", "counter", "Requests that were refused, by code.", refused),
            _family("sync_webhooks_under_way", "gauge", "Deliveries that wait for their answer.", [({}, under_way)]),
            _family("sync_queue_messages", "gauge", "Rows of the queue, by state.", rows),
            _family("sync_queue_oldest_due_age_seconds", "gauge", "How long the oldest row has been due.", ages),
        ]
        return "".join(f"{line}\n" for lines in families for line in lines)


def _family(name: str, kind: str, about: str, samples: Iterable[_Sample]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        inner = ",".join(f'{label}="{text}"' for label, text in labels.items())
        yield f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"
