"""Virtual time, and the one thread of control.

A program is a greenlet: plain synchronous code that gives way whenever it calls `pause`. Everything else that
happens in the world is a callback. Both wait in one heap, ordered by time and then by who came first.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from greenlet import getcurrent, greenlet


class Stopped(BaseException):
    """Raised where a program stands when its process dies."""


class Program:
    """A process of the simulated world."""

    __slots__ = ("_greenlet", "_registry", "_ticket", "has_ended", "is_dying", "name")

    def __init__(self, name: str, body: Callable[[], None], hub: greenlet, registry: dict[Any, "Program"]) -> None:
        self.name = name
        self._registry = registry
        self.has_ended = False
        self.is_dying = False
        self._ticket = 0
        self._greenlet = greenlet(self._run(body), parent=hub)
        registry[self._greenlet] = self

    def _run(self, body: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                body()
            except Stopped:
                pass
            finally:
                self.leave()

        return run

    def leave(self) -> None:
        """Note that the process is gone."""
        self.has_ended = True
        self._registry.pop(self._greenlet, None)


class Scheduler:
    """Runs programs and callbacks in order of virtual time."""

    def __init__(self, is_quiet: Callable[[], bool] = lambda: True) -> None:
        """Make one.

        Args:
            is_quiet: Whether nothing is left for background actions to do.
        """
        self.now_seconds = 0.0
        self._until_seconds = 0.0
        self._is_quiet = is_quiet
        self.num_steps = 0
        self._hub = getcurrent()
        self._sequence = 0
        self._heap: list[tuple[float, int, Any, Any]] = []
        self._num_background = 0
        self._programs: dict[greenlet, Program] = {}

    def after(self, seconds: float, action: Callable[[], None], *, background: bool = False) -> None:
        """Call `action` later. `background` actions alone, such as a periodic sweep, do not keep a run going."""
        self._num_background += background
        self._push(seconds, _Background(action) if background else None, action)

    def start(self, name: str, body: Callable[[], None]) -> Program:
        """Start a program at this moment, behind what waits for the same moment."""
        program = Program(name, body, self._hub, self._programs)
        self._push(0.0, program, program._ticket)
        return program

    def pause(self, seconds: float) -> None:
        """Let the world go on for `seconds`, or until somebody wakes the calling program.

        Raises:
            Stopped: if the calling program was stopped; again at every later call.
        """
        program = self._programs[getcurrent()]
        if program.is_dying:
            raise Stopped
        until_seconds = self.now_seconds + seconds
        if until_seconds <= self._until_seconds and (not self._heap or until_seconds < self._heap[0][0]):
            # Nobody else has anything to do until then: the hub would come straight back.
            self.now_seconds = until_seconds
            self.num_steps += 1
            return
        self._push(seconds, program, program._ticket)
        self._hub.switch()

    def wake(self, program: Program) -> None:
        """End the pause of a program now."""
        if not program.has_ended:
            program._ticket += 1
            self._push(0.0, program, program._ticket)

    def stop(self, program: Program) -> None:
        """Kill a program where it stands. For callbacks only: a program stops another by a callback."""
        assert getcurrent() is self._hub
        program.is_dying = True
        if program._greenlet:
            program._greenlet.throw(Stopped)
        program.leave()

    def run(self, until_seconds: float) -> None:
        """Run until that time, or until only background actions are left and have nothing to do."""
        heap = self._heap
        self._until_seconds = until_seconds
        while (len(heap) > self._num_background or not self._is_quiet()) and heap and heap[0][0] <= until_seconds:
            self.now_seconds, _, who, what = heappop(heap)
            if isinstance(who, Program):
                if who.has_ended or what != who._ticket:
                    continue
                self.num_steps += 1
                who._ticket += 1
                who._greenlet.switch()
            else:
                self._num_background -= who is not None
                self.num_steps += 1
                what()

    def close(self) -> None:
        """Stop every program that is left. Dropped unfinished, greenlets would run their `finally` anywhere."""
        for program in list(self._programs.values()):
            self.stop(program)
        assert not self._programs

    def _push(self, seconds: float, who: Any, what: Any) -> None:
        self._sequence += 1
        heappush(self._heap, (self.now_seconds + seconds, self._sequence, who, what))


class _Background:
    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
