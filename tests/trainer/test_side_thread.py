import signal
import threading

from spotkeeper.trainer.child import WAITED
from spotkeeper.trainer.side_thread import start_without_signals


def test_a_side_thread_is_given_none_of_the_signals_for_which_the_main_thread_waits_and_that_one_still_is() -> None:
    masks = []
    thread = threading.Thread(target=lambda: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    start_without_signals(thread)
    thread.join()

    assert masks[0] >= WAITED
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
