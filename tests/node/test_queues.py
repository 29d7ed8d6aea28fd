"""The queues: what waits, what is deferred, and what ends a wait."""

from __future__ import annotations

from exchange.core.delivery import Status
from exchange.core.wire import NodeId
from exchange.node import queues
from exchange.node.queues import Item, PeerQueue, Queues

PEER = NodeId("kh-fp1")


def item(seq: int, lane: int = 1, size: int = 10) -> Item:
    """An envelope of that number."""
    return (lane, seq, f"digest {seq}", f"message {seq}", b"d" * size, b"")


def filled(*items: Item) -> PeerQueue:
    """A queue with these items ready."""
    queue = PeerQueue()
    for one in items:
        queue.push(one)
    return queue


def test_order_is_lane_then_number() -> None:
    """An alert overtakes everything else; within a lane the lower number goes first."""
    queue = filled(item(3), item(2), item(9, lane=0))
    assert [taken[1] for taken in queue.take(10, 1_000)] == [9, 2, 3]


def test_request_is_bounded_by_bytes_but_never_empty() -> None:
    """A request takes as many items as fit, and one that is too large alone."""
    queue = filled(item(1, size=60), item(2, size=60), item(3, size=60))
    assert [taken[1] for taken in queue.take(10, 130)] == [1, 2]
    assert [taken[1] for taken in queue.take(10, 5)] == [3]
    assert queue.take(10, 5) == []


def test_known_item_is_not_queued_twice() -> None:
    """What is queued, under way or deferred is not queued again when the store is read once more."""
    queue = filled(item(1))
    (taken,) = queue.take(1, 100)
    queue.push(item(1))
    assert queue.ready == []
    queue.park(taken, "relay.held", 5.0)
    queue.push(item(1))
    assert queue.ready == []


def test_alert_finds_its_place_in_a_full_queue() -> None:
    """However much waits, an alert is the next to go; the last in line comes again from the store."""
    queue = filled(*(item(seq) for seq in range(queues.MAX_READY)))
    queue.more_in_store = False
    queue.push(item(9_999, lane=0))
    assert queue.more_in_store
    assert len(queue.ready) == queues.MAX_READY
    assert queue.take(1, 100)[0][1] == 9_999
    queue.push(item(queues.MAX_READY - 1))
    assert len(queue.take(1_000, 10**6)) == queues.MAX_READY


def test_full_queue_remembers_that_the_store_has_more() -> None:
    """What does not fit into memory is left to the store, and the queue knows."""
    queue = PeerQueue(more_in_store=False)
    knows: list[bool] = []
    for seq in range(queues.MAX_READY + 1):
        queue.push(item(seq))
        knows.append(queue.more_in_store)
    assert knows == [False] * queues.MAX_READY + [True]
    assert len(queue.ready) == queues.MAX_READY


def test_failed_request_gives_its_items_back() -> None:
    """What was under way is ready again after a failure, save what was answered meanwhile."""
    queue = filled(item(1), item(2))
    taken = queue.take(2, 100)
    queue.drop("digest 1")
    queue.give_back(taken)
    assert [one[1] for one in queue.take(2, 100)] == [2]


def test_deferred_item_waits_for_its_time() -> None:
    """A deferred item is tried again when its time has come and no sooner; the first of a round says when."""
    queue = filled(item(1), item(2), item(3))
    first, second = queue.take(2, 100)
    queue.park(first, "relay.held", 5.0)
    queue.park(second, "relay.quota", 9.0)
    queue.unpark_due(4.9)
    assert [one[1] for one in queue.ready] == [3]
    queue.unpark_due(5.0)
    assert sorted(one[1] for one in queue.ready) == [1, 2, 3]
    assert (queue.deferrals, queue.deferred) == (1, {"digest 1": "relay.held", "digest 2": "relay.quota"})


def test_hearing_from_a_peer_that_defers_ends_no_wait() -> None:
    """Contact does not bring back what was deferred or reset its rounds: two such nodes would never sleep."""
    queue = filled(item(1))
    (taken,) = queue.take(1, 100)
    queue.park(taken, "agreement.unknown", 5.0)
    queue.wake.clear()
    queue.contact()
    assert (queue.ready, queue.deferrals, queue.wake.is_set()) == ([], 1, False)


def test_hearing_from_a_silent_peer_ends_the_wait() -> None:
    """Contact after a request that reached nobody ends the wait for envelopes and for evidence."""
    queue = PeerQueue()
    queue.fail("relay.unreachable")
    queue.contact()
    assert (queue.failures, queue.trouble) == (0, None)
    assert queue.wake.is_set()
    assert queue.blobs.is_set()


def test_hearing_from_a_refusing_peer_ends_no_wait() -> None:
    """Contact with a peer that refused whole requests leaves its failures as they are."""
    queue = PeerQueue()
    queue.fail("relay.busy")
    queue.contact()
    assert (queue.failures, queue.trouble, queue.wake.is_set()) == (1, "relay.busy", False)


def parked(count: int) -> PeerQueue:
    """A queue whose peer deferred everything."""
    queue = filled(*(item(seq) for seq in range(count)))
    for taken in reversed(queue.take(count, 10_000)):
        queue.park(taken, "relay.held", 1e9)
    return queue


def test_asking_brings_back_what_was_deferred() -> None:
    """Somebody's asking brings everything back at once."""
    queue = parked(3)
    queue.retry()
    assert sorted(one[1] for one in queue.ready) == [0, 1, 2]
    assert (queue.parked, queue.deferrals) == ([], 0)


def test_progress_brings_back_the_first_in_line() -> None:
    """Each final answer brings back two of those deferred, the first in line; the others wait for their time."""
    queue = parked(5)
    queue.progress(1)
    assert [taken[1] for taken in queue.take(9, 1_000)] == [0, 1]
    assert ([one[1] for one in queue.parked], queue.deferrals) == ([2, 3, 4], 0)
    queue.progress(7)
    assert [taken[1] for taken in queue.take(9, 1_000)] == [2, 3, 4]


def test_answered_item_is_forgotten_wherever_it_is() -> None:
    """An answered or unwanted item is neither ready, nor under way, nor deferred any more, and may come back later."""
    queue = filled(item(1), item(2), item(3))
    first, second = queue.take(2, 100)
    queue.park(first, "relay.held", 1.0)
    for seq in (1, 2, 3):
        queue.drop(f"digest {seq}")
    queue.give_back([second])
    queue.unpark()
    assert (queue.ready, queue.parked, queue.in_flight, queue.deferred) == ([], [], {}, {})
    queue.push(item(1))
    assert len(queue.ready) == 1


def test_parking_what_is_no_longer_under_way_changes_nothing() -> None:
    """An item that was answered while its request was read is not deferred."""
    queue = filled(item(1))
    (taken,) = queue.take(1, 100)
    queue.drop("digest 1")
    queue.park(taken, "relay.held", 1.0)
    assert (queue.parked, queue.deferrals) == ([], 0)


def test_listener_hears_of_its_message_until_it_stops() -> None:
    """Who waits for a message hears each of its statuses, and nothing after it stopped listening."""
    heard: list[Status] = []
    everything: list[tuple[str, object]] = []
    all_queues = Queues()
    all_queues.on_news = lambda kind, _peer, _message, status: everything.append((kind, status))
    all_queues.listen(PEER, "m", heard.append)
    all_queues.notify("status", PEER, "m", Status.ACCEPTED)
    all_queues.notify("status", PEER, "other", Status.REFUSED)
    all_queues.unlisten(PEER, "m", heard.append)
    all_queues.unlisten(PEER, "m", heard.append)
    all_queues.notify("status", PEER, "m", Status.COMPLETE)
    all_queues.notify("alarm", PEER, "m", None)
    assert heard == [Status.ACCEPTED]
    assert [kind for kind, _ in everything] == ["status", "status", "status", "alarm"]


def test_each_peer_has_its_own_queue() -> None:
    """What is pushed or dropped for one peer leaves the others alone."""
    all_queues = Queues()
    all_queues.push(PEER, item(1))
    assert all_queues.queue(NodeId("th-fp1")).ready == []
    all_queues.drop(PEER, "digest 1")
    assert all_queues.queue(PEER).ready == []
