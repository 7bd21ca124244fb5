"""CUDA graphs of functions over static tensors: captured once, then replayed."""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

logger = logging.getLogger(__name__)


class Captures(NamedTuple):
    """What the captures of one call of `generate` cost."""

    count: int
    seconds: float
    """On the host, without the ordinary runs before them."""


class Graphs:
    """The memory, the stream and the count of graphs that are never replayed at the same time.

    They share one pool of memory: nothing in it is read by another graph, nor from outside. It
    goes with the last graph, and cannot be used again: one object for each call of `generate`.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(device)
        self.captures = Captures(0, 0.0)
        self.is_off = False
        """Whether a capture failed: all runs are ordinary ones from then on."""

    def capture(self, function: Callable[[], None]) -> torch.cuda.CUDAGraph | None:
        """Return a graph of `function`, which is not run; None, and a logged line, on failure."""
        started = time.perf_counter()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, such as those that pin memory or watch NCCL, may go on meanwhile. The
            # outer block goes back to this stream, as a capture that fails does not.
            with (
                torch.cuda.stream(torch.cuda.current_stream(self.stream.device)),
                torch.cuda.graph(
                    graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
                ),
            ):
                function()
        except RuntimeError as error:
            self.is_off = True
            logger.warning(
                "Decoding goes on without CUDA graphs, as a capture failed; CONCORD_STEPPING=plain "
                "does not try: %s",
                # The end of a spoilt capture raises too, after what spoilt it.
                error.__context__ or error,
            )
            return None
        spent = time.perf_counter() - started
        self.captures = Captures(self.captures.count + 1, self.captures.seconds + spent)
        return graph


class Replay:
    """Runs one function without arguments or result, replayed from its second run on.

    It is handed over at each run, so that what it belongs to may hold this object without a cycle:
    tensors then go when they should. It must be the same one each time. It must not wait for the
    device, must leave the host's state alone, and must read and write tensors that stay where they
    are until `forget` is called. What one run leaves in them is what the next finds, as usual.
    """

    def __init__(self, graphs: Graphs | None) -> None:
        """Capture with `graphs`; None makes all runs ordinary ones."""
        self._graphs = graphs
        self._graph: torch.cuda.CUDAGraph | None = None
        self._is_valid = False

    def forget(self) -> None:
        """Have the next run be an ordinary one, after which the function is captured anew."""
        self._is_valid = False

    def __call__(self, function: Callable[[], None]) -> None:
        """Run `function`, or the graph of it."""
        graphs = self._graphs
        if graphs is None or graphs.is_off:
            function()
        elif self._is_valid and self._graph is not None:
            self._graph.replay()
        else:
            _warm_up(function, graphs.stream)
            # The pool lives as long as one of its graphs does: the old one goes after the new one.
            self._graph = graphs.capture(function)
            self._is_valid = True


def _warm_up(function: Callable[[], None], stream: torch.cuda.Stream) -> None:
    """Run on the stream of captures: libraries set up their memory for each stream."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        function()
    current.wait_stream(stream)
