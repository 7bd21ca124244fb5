"""CUDA graphs of functions over static tensors: captured once, then replayed."""

import logging
import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, Protocol

import torch

logger = logging.getLogger(__name__)

_FUNCTIONS = 2
"""That are captured in one call: to draw and to decode."""


class Captures(NamedTuple):
    """What the captures of one call of `generate` cost."""

    num: int
    seconds: float
    """On the host, without the ordinary runs before them."""


class Graph(Protocol):
    """What a function did once, to be done again."""

    def replay(self) -> None:
        """Do it again, to the same tensors."""


class Graphs:
    """The memory, the streams and the count of graphs that are never replayed at the same time.

    They share one pool of memory: nothing in it is read by another graph, nor from outside. It
    goes with the last graph, and cannot be used again: one object for each call of `generate`. A
    process makes one call at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.device = device
        self.captures = Captures(0, 0.0)
        self.is_off = False
        """Whether a capture failed: all runs are ordinary ones from then on."""

    def capture(self, function: Callable[[], None], number: int) -> Graph | None:
        """Run `function` once, and return a graph of it; None, and a logged line, on failure.

        The run is its warm-up. `number` is of the stream: another than the last graph's.
        """
        stream = _streams(self.device)[number]
        _warm_up(function, stream)
        return self._captured(function, stream)

    def _captured(
        self, function: Callable[[], None], stream: torch.cuda.Stream
    ) -> torch.cuda.CUDAGraph | None:
        started = time.perf_counter()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, such as those that pin memory or watch NCCL, may go on meanwhile. The
            # outer block goes back to this stream, as a capture that fails does not.
            with (
                torch.cuda.stream(torch.cuda.current_stream(self.device)),
                torch.cuda.graph(
                    graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"
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
        self.captures = Captures(self.captures.num + 1, self.captures.seconds + spent)
        return graph


class Replay:
    """Runs one function without arguments or result, replayed from its second run on.

    It is handed over at each run, so that what it belongs to may hold this object without a cycle:
    tensors then go when they should. It must be the same one each time. It must not wait for the
    device, must leave the host's state alone, and must read and write tensors that stay where they
    are until `forget` is called. What one run leaves in them is what the next finds, as usual.
    """

    def __init__(self, graphs: Graphs | None, number: int) -> None:
        """Capture function `number` of a call with `graphs`; None makes all runs ordinary ones."""
        assert number < _FUNCTIONS, f"{number} is not below {_FUNCTIONS}"
        self._graphs, self._number, self._num_captures = graphs, number, 0
        self._graph: Graph | None = None
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
            # The pool lives as long as one of its graphs does: the old one goes after the new one.
            self._graph = graphs.capture(function, 2 * self._number + self._num_captures % 2)
            self._num_captures += 1
            self._is_valid = True

    def close(self) -> None:
        """Let go of the graph."""
        self._graph, self._is_valid = None, False


@cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    """Return the streams of captures: for each function two that take turns.

    torch gives cuBLAS a workspace for each stream and keeps it, so streams are not made anew. In
    newer versions a graph that goes takes its stream's workspace with it (pytorch/pytorch#193402):
    the graph that follows must have been captured on another, and no two functions share one.
    """
    return [torch.cuda.Stream(device) for _ in range(2 * _FUNCTIONS)]


def _warm_up(function: Callable[[], None], stream: torch.cuda.Stream) -> None:
    """Run on the stream of captures: libraries set up their memory for each stream."""
    current = torch.cuda.current_stream(stream.device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        function()
    current.wait_stream(stream)
