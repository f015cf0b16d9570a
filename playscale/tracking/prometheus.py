"""Metrics for Prometheus at http://HOST:PORT/metrics, where PLAYSCALE_METRICS_PORT names the port.

Each process has a port of its own: when PORT is taken (parallel tasks of a study), it uses the next free one.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playscale.tracking.monitor import CATALOGUE, LABELS, count, describe, use_backend

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

PORT = "PLAYSCALE_METRICS_PORT"
MAX_PORTS = 16  # tried one after the other
LINGER = 60.0
"""Seconds that a failing process waits for one more scrape, if it was scraped before, so that its errors are seen."""

log = logging.getLogger(__name__)


class Scrapes:
    """Count scrapes: as the first collector of a registry those begun, as the last those that have read everything."""

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Any]:
        self.count += 1
        return ()


class PrometheusBackend:
    """A monitor.MetricsBackend. Counters are exported as 0 from the start, so that the first increase is visible."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

        self.registry, self.scrapes_begun = CollectorRegistry(), Scrapes()
        self.registry.register(self.scrapes_begun)
        ProcessCollector(registry=self.registry)
        self._metrics: dict[str, Counter | Gauge] = {}
        for name, metric in CATALOGUE.items():
            kind = Counter if metric.kind == "counter" else Gauge
            own_label = (metric.label,) if metric.label else ()
            self._metrics[name] = kind(f"playscale_{name}", metric.help, LABELS + own_label, registry=self.registry)
        self._began = time.time()
        self._labels: dict[str, str] = {}

    def describe(self, labels: dict[str, str]) -> None:
        if labels == self._labels:
            return
        self._labels = labels
        for metric in self._metrics.values():
            metric.clear()  # values under other labels no longer apply
        self.gauge("task_start_timestamp_seconds", self._began, "")
        self.gauge("task_progress_ratio", 0.0, "")
        for name, known in CATALOGUE.items():
            if known.kind == "counter":
                for value in known.values or ("",):
                    self._metric(name, value)

    def _metric(self, name: str, label: str) -> Any:
        own_label = CATALOGUE[name].label
        return self._metrics[name].labels(**self._labels, **({own_label: label} if own_label else {}))

    def count(self, name: str, amount: float, label: str) -> None:
        self._metric(name, label).inc(amount)

    def gauge(self, name: str, value: float, label: str) -> None:
        self._metric(name, label).set(value)

    def watch(self, name: str, read: Callable[[], float]) -> None:
        self._metric(name, "").set_function(read)


class MetricsServer:
    """Serve the metrics of a backend in a thread."""

    def __init__(self, port: int, backend: PrometheusBackend) -> None:
        """Start the server; OSError when the port cannot be opened."""
        from prometheus_client import disable_created_metrics, start_http_server

        disable_created_metrics()
        self.port, self._begun, self._ended = port, backend.scrapes_begun, Scrapes()
        self._server, self._thread = start_http_server(port, registry=backend.registry)
        backend.registry.register(self._ended)

    def linger(self, seconds: float) -> None:
        """Wait for a scrape that begins from now on, if there ever was one before."""
        before, deadline = self._begun.count, time.monotonic() + seconds
        if not before:
            return
        while self._ended.count <= before and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.1)  # its response is being sent

    def close(self) -> None:
        """Finish the response that is being sent, then stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def served(**labels: str) -> Iterator[None]:
    """Inside the block, serve this process's metrics, if PLAYSCALE_METRICS_PORT is set.

    labels: some of monitor.LABELS
    When no port can be opened, this is logged and nothing is served. ValueError when the variable is no port.
    """
    text = os.environ.get(PORT)
    if not text:
        yield
        return
    backend = PrometheusBackend()
    server = _start_server(_port(text), backend)
    if server is None:
        yield
        return
    with use_backend(backend):
        describe(**labels)
        try:
            yield
        except Exception as error:
            if not getattr(error, "monitored", False):
                count("errors", label="user" if isinstance(error, ValueError | OSError) else "internal")
            server.linger(LINGER)
            raise
        finally:
            server.close()


def _port(text: str) -> int:
    """Return the port to try first: the one that is set, plus this process's local rank under torchrun."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise ValueError(f"{PORT}: {text!r} is no port; give a number such as 9464, or unset it")
    return int(text) + int(os.environ.get("LOCAL_RANK", "0"))


def _start_server(port: int, backend: PrometheusBackend) -> MetricsServer | None:
    for candidate in range(port, min(port + MAX_PORTS, 2**16)):
        try:
            server = MetricsServer(candidate, backend)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                log.warning("metrics: port %d: %s: nothing is exposed", candidate, error.strerror)
                return None
            continue
        if candidate != port:
            log.warning("metrics: port %d is taken: on port %d instead", port, candidate)
        return server
    log.warning("metrics: no free port from %d to %d: nothing is exposed", port, port + MAX_PORTS - 1)
    return None
