"""Prometheus behind the monitoring port: http://HOST:PORT/metrics, where PLAYSCALE_METRICS_PORT names the port.

One process a port. Where it is taken (a study's tasks side by side, the processes of torchrun), the next free one is.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from playscale.tracking.monitor import CATALOGUE, LABELS, count, describe, listening

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

PORT = "PLAYSCALE_METRICS_PORT"
PORTS = 16  # tried one after the other
LINGER = 60.0
"""Seconds that a failing process stays for the next scrape, if it was ever scraped: else nobody sees why it went."""

log = logging.getLogger(__name__)


class Scrapes:
    """Counts scrapes: as a registry's first collector when they begin, as its last when all metrics have been read."""

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterable[Any]:
        self.count += 1
        return ()


class PrometheusListener:
    """A monitor.Listener. Every counter begins with 0, so that its first increase is seen as one."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

        self.registry, self.scrapes_begun = CollectorRegistry(), Scrapes()
        self.registry.register(self.scrapes_begun)
        ProcessCollector(registry=self.registry)
        self._metrics: dict[str, Counter | Gauge] = {}
        for name, metric in CATALOGUE.items():
            kind = Counter if metric.kind == "counter" else Gauge
            own = (metric.label,) if metric.label else ()
            self._metrics[name] = kind(f"playscale_{name}", metric.help, LABELS + own, registry=self.registry)
        self._began = time.time()
        self._labels: dict[str, str] = {}

    def describe(self, labels: dict[str, str]) -> None:
        if labels == self._labels:
            return
        self._labels = labels
        for metric in self._metrics.values():
            metric.clear()  # what was said under other labels is no longer so
        self.gauge("task_start_timestamp_seconds", self._began, "")
        self.gauge("task_progress_ratio", 0.0, "")
        for name, known in CATALOGUE.items():
            if known.kind == "counter":
                for value in known.values or ("",):
                    self._of(name, value)

    def _of(self, name: str, own: str) -> Any:
        label = CATALOGUE[name].label
        return self._metrics[name].labels(**self._labels, **({label: own} if label else {}))

    def count(self, name: str, amount: float, own: str) -> None:
        self._of(name, own).inc(amount)

    def gauge(self, name: str, value: float, own: str) -> None:
        self._of(name, own).set(value)

    def watch(self, name: str, read: Callable[[], float]) -> None:
        self._of(name, "").set_function(read)


class MetricsServer:
    """Answers scrapes in a thread."""

    def __init__(self, port: int, listener: PrometheusListener) -> None:
        """OSError when the port cannot be had."""
        from prometheus_client import disable_created_metrics, start_http_server

        disable_created_metrics()
        self.port, self._begun, self._ended = port, listener.scrapes_begun, Scrapes()
        self._server, self._thread = start_http_server(port, registry=listener.registry)
        listener.registry.register(self._ended)

    def linger(self, seconds: float) -> None:
        """Wait for the end of a scrape that begins from now on, if there ever was one before."""
        before, deadline = self._begun.count, time.monotonic() + seconds
        if not before:
            return
        while self._ended.count <= before and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.1)  # its answer is on its way

    def close(self) -> None:
        """Finishes the answer that is on its way."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def served(**labels: str) -> Iterator[None]:
    """While inside, what this process does can be scraped, if PLAYSCALE_METRICS_PORT is set; `labels`: monitor.LABELS.

    A port that cannot be had is a warning, nothing more. ValueError when the variable is no port.
    """
    asked = os.environ.get(PORT)
    if not asked:
        yield
        return
    listener = PrometheusListener()
    server = _server(_port(asked), listener)
    if server is None:
        yield
        return
    with listening(listener):
        describe(**labels)
        try:
            yield
        except Exception as error:
            if not getattr(error, "monitored", False):
                count("errors", own="user" if isinstance(error, ValueError | OSError) else "internal")
            server.linger(LINGER)
            raise
        finally:
            server.close()


def _port(asked: str) -> int:
    """The port this process tries first: that which was asked for, counted on by its number under torchrun."""
    if not (asked.isascii() and asked.isdigit() and 0 < int(asked) < 2**16):
        raise ValueError(f"{PORT}: {asked!r} is no port; give a number such as 9464, or unset it")
    return int(asked) + int(os.environ.get("LOCAL_RANK", "0"))


def _server(port: int, listener: PrometheusListener) -> MetricsServer | None:
    for candidate in range(port, min(port + PORTS, 2**16)):
        try:
            server = MetricsServer(candidate, listener)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                log.warning("metrics: port %d: %s: nothing is exposed", candidate, error.strerror)
                return None
            continue
        if candidate != port:
            log.warning("metrics: port %d is taken: on port %d instead", port, candidate)
        return server
    log.warning("metrics: no free port from %d to %d: nothing is exposed", port, port + PORTS - 1)
    return None
