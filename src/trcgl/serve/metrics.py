"""Counters in the text format of Prometheus. Labels come from fixed lists, never from a request."""

import os
import sys
from collections.abc import Callable

import prometheus_client as prometheus

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64)

prometheus.disable_created_metrics()  # a second line for every counter that nothing here reads


class Metrics:
    """The counters of one server, for GET /metrics; `decoders` returns the process ids of the decoders."""

    def __init__(self, queue: Callable[[], int], decoders: Callable[[], list[int]]) -> None:
        self._registry = registry = prometheus.CollectorRegistry()
        labels = ["route", "status"]
        self.requests = prometheus.Counter("trcgl_requests", "Requests by route and status.", labels, registry=registry)
        self.seconds = prometheus.Histogram(
            "trcgl_request_seconds", "Time to answer, sending included.", ["route"], buckets=SECONDS, registry=registry
        )
        self.batches = prometheus.Histogram(
            "trcgl_batch_images", "Radiographs per call of the network.", buckets=SIZES, registry=registry
        )
        self.restarts = prometheus.Counter("trcgl_decoder_restarts", "Decoders lost to a file.", registry=registry)
        self.studies = prometheus.Counter(
            "trcgl_studies", "Studies by outcome: scored, unreadable, failed.", ["outcome"], registry=registry
        )
        self.sent = prometheus.Counter(
            "trcgl_sent",
            "DICOM files by outcome: sent, refused, dropped.",
            ["outcome"],
            registry=registry,
        )
        self.spool_files = prometheus.Gauge("trcgl_spool_files", "Files that wait in the spool.", registry=registry)
        waiting = prometheus.Gauge("trcgl_queue_images", "Uploads that wait for an answer.", registry=registry)
        waiting.set_function(queue)
        memory = prometheus.Gauge("trcgl_decoder_resident_bytes", "Resident memory of all decoders.", registry=registry)
        memory.set_function(lambda: sum(map(resident_bytes, decoders())))
        prometheus.ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """The current values."""
        return prometheus.generate_latest(self._registry)


def resident_bytes(process: int) -> int:
    """Resident memory of a process; 0 if it ended or the system does not report it."""
    if sys.platform != "linux":
        return 0
    try:
        with open(f"/proc/{process}/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
