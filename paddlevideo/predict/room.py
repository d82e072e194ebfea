"""How many videos are scored together, and how many samples are in memory."""

import math
from dataclasses import dataclass

from paddlevideo.log import logger
from paddlevideo.predict.feed import Feed

# Videos of several views are scored together up to this many runs of the network.
MAX_RUNS = 8
# The network waits for the first batch, which is then a sixteenth of the decoding.
MIN_BATCHES = 16


@dataclass(frozen=True)
class Room:
    """The room for videos.

    Args:
        feed: makes the samples.
        views: clips of one video that the program takes.
        views_per_step: clips in one run of the network.
        wait_bytes: limit on the samples that wait for a run.
    """

    feed: Feed
    views: int
    views_per_step: int
    wait_bytes: int

    @property
    def limit(self) -> int:
        """Samples of one shape that fit into `wait_bytes`, at least 1."""
        return max(1, self.wait_bytes // self.feed.sample_bytes)

    def batch_size(self, requested: int | None, num_videos: int) -> int:
        """The requested number of videos, or how many fill runs of the network.

        It is reduced to what the memory limit allows, and to 1 if shapes may differ. Few videos are
        at least MIN_BATCHES batches, of which one is decoded while another is scored.
        """
        limit, reason = 1, "their sizes differ"
        if self.feed.fixed_size:
            limit = self.limit
            reason = f"the views of one take {self.feed.sample_bytes / 2**20:.0f} MB"
        if requested is None:
            overlapping = -(-num_videos // MIN_BATCHES)
            return max(1, min(self._videos_of_full_runs(), limit, overlapping))
        if min(requested, num_videos) > limit:
            logger.info(f"{limit} video(s) at a time instead of {requested}: {reason}")
        return min(requested, limit)

    def _videos_of_full_runs(self) -> int:
        """The smallest number of videos whose views fill runs, up to MAX_RUNS of them."""
        step = self.views_per_step
        videos = step // math.gcd(self.views, step)
        return videos if videos * self.views <= MAX_RUNS * step else max(1, step // self.views)

    def samples(self, batch_size: int, workers: int) -> int:
        """How many samples may be in memory: a batch that is scored, and the next ones."""
        if not self.feed.fixed_size:
            return 1 + workers
        ahead = max(batch_size, 2 * workers)
        return max(batch_size + 1, min(batch_size + ahead, self.limit))
