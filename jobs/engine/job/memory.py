"""Peak memory of a stage on one node."""

from __future__ import annotations

import threading

SAMPLE_EVERY_S = 5.0


class MemoryPeak:
    """Peak of the proportional set size of this process and its descendants on this node, in MB (sampled)."""

    def __init__(self) -> None:
        self.peak_mb = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        import psutil

        me = psutil.Process()
        while True:
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue  # ended between listing and reading
            self.peak_mb = max(self.peak_mb, total >> 20)
            if self._stop.wait(SAMPLE_EVERY_S):
                return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=SAMPLE_EVERY_S)
