"""The queue of a live source drops its oldest frames."""

import threading

import numpy as np

from paddlevideo.timelines.frames import Audio, Frame, Gap
from paddlevideo.timelines.live_queue import DroppingQueue


def frame(seconds: float, side: int = 2) -> Frame:
    return Frame(seconds, np.zeros((side, side, 3), np.uint8))


def sound(seconds: float) -> Audio:
    return Audio(seconds, np.zeros(8, np.float32), 8)


def taken(queue: DroppingQueue) -> list:
    items = []
    while (arrived := queue.get(0)) is not None:
        items.append(arrived.item)
    return items


def starts(items: list) -> list[float]:
    return [item.start if isinstance(item, Gap) else item.time for item in items]


def test_items_keep_their_order_and_their_arrival():
    now = iter([5.0, 7.5])
    queue = DroppingQueue(1.0, clock=lambda: next(now))
    queue.put(frame(0.0))
    queue.put(sound(0.1))
    first, second = queue.get(0), queue.get(0)
    assert first and second
    assert starts([first.item, second.item]) == [0.0, 0.1]
    assert (first.arrival, second.arrival) == (5.0, 7.5)
    assert queue.get(0) is None and queue.dropped == 0


def test_the_oldest_frames_make_room_and_are_counted():
    queue = DroppingQueue(1.0)
    for number in range(10):
        queue.put(frame(number * 0.25))
    assert starts(taken(queue)) == [1.25, 1.5, 1.75, 2.0, 2.25]
    assert queue.dropped == 5


def test_audio_is_dropped_with_its_frames_and_not_counted():
    queue = DroppingQueue(1.0)
    for number in range(10):
        queue.put(frame(number * 0.25))
        queue.put(sound(number * 0.25 + 0.1))
    assert starts(taken(queue))[0] >= 1.25
    assert queue.dropped in (5, 6)


def test_audio_alone_is_bounded():
    queue = DroppingQueue(1.0)
    for number in range(10):
        queue.put(sound(number * 0.5))
    assert starts(taken(queue)) == [3.5, 4.0, 4.5]


def test_gaps_are_never_dropped():
    queue = DroppingQueue(1.0)
    queue.put(frame(0.0))
    queue.put(Gap(0.1, 5.0, "lost"))
    queue.put(frame(5.0))
    queue.put(frame(8.0))
    assert starts(taken(queue)) == [0.1, 8.0]
    assert queue.dropped == 2


def test_bytes_are_bounded_and_one_frame_always_fits():
    queue = DroppingQueue(100.0, max_bytes=30)
    for number in range(5):
        queue.put(frame(float(number)))  # 12 bytes each
    assert starts(taken(queue)) == [3.0, 4.0]
    queue.put(frame(9.0, side=50))
    assert starts(taken(queue)) == [9.0]


def test_time_that_goes_back_does_not_block_or_drop():
    queue = DroppingQueue(1.0)
    queue.put(frame(7.0))
    queue.put(frame(3.0))
    assert starts(taken(queue)) == [7.0, 3.0]


def test_a_put_waits_for_room_where_it_may():
    queue = DroppingQueue(1.0)
    queue.put(frame(0.0))
    thread = threading.Thread(target=queue.put, args=(frame(2.0), 60.0))
    thread.start()
    first = queue.get(0)
    assert first and starts([first.item]) == [0.0]
    thread.join()
    assert starts(taken(queue)) == [2.0] and queue.dropped == 0


def test_closing_ends_all_waiting():
    queue = DroppingQueue(1.0)
    queue.put(frame(0.0))
    thread = threading.Thread(target=queue.put, args=(frame(2.0), 60.0))
    thread.start()
    queue.close()
    thread.join()
    assert not queue.ended
    assert starts(taken(queue)) == [2.0]
    assert queue.ended
    assert queue.get(60.0) is None


def test_many_threads_lose_nothing_but_what_is_counted():
    queue = DroppingQueue(0.001)
    threads = [
        threading.Thread(target=lambda: [queue.put(frame(n / 100)) for n in range(200)])
        for _ in range(4)
    ]
    got = []
    reader = threading.Thread(
        target=lambda: [got.append(a) for a in iter(lambda: queue.get(5), None)]
    )
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.close()
    reader.join()
    assert len(got) + queue.dropped == 800
