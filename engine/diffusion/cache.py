"""Denoised windows that neighbouring chunks share, so that none is computed twice while it is remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from torch import Tensor

K = TypeVar("K", bound=Hashable)


class TileCache:
    """Tiles by key, the least recently used forgotten first.

    A tile is a pure function of its key, so remembering or forgetting one never changes a result.

    Args:
        limit: most bytes that are remembered between calls.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.computed = 0
        self._tiles: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._size = 0

    def get(
        self,
        keys: Sequence[K],
        compute: Callable[[list[K]], Sequence[Tensor]],
        size: int = 1,
        later: Iterable[K] = (),
        places: Callable[[K], int] = lambda key: 1,
        fetch: Callable[[K], Tensor | None] = lambda key: None,
        leave: Callable[[K, Tensor], None] = lambda key, tile: None,
    ) -> dict[K, Tensor]:
        """The tiles of these keys; those that are not to be had are computed, in one call and in the given order.

        Args:
            keys: of the tiles.
            compute: makes tiles of keys, ``size`` at a time.
            size: places of a batch.
            later: keys that will be asked for next, the nearest first; they take the places that would be left over in
                the last batch.
            places: that a key takes in a batch.
            fetch: the tile of a key that somebody else computed, None where there is none.
            leave: takes each tile that was computed here.
        """
        missing = [key for key in keys if not self._has(key, fetch)]
        asked = dict.fromkeys(missing)
        room = -sum(map(places, asked)) % size
        for key in later if room else ():
            if not room:
                break
            if key not in asked and places(key) <= room and not self._has(key, fetch):
                asked[key] = None
                room -= places(key)
        fresh = dict(zip(asked, compute(list(asked)))) if asked else {}
        self.computed += len(fresh)
        for key, tile in fresh.items():
            leave(key, tile)
        found = {key: fresh[key] if key in fresh else self._tiles[key] for key in keys}
        for key, tile in (found | fresh).items():
            self._remember(key, tile)
        while self._size > self.limit and self._tiles:
            _, tile = self._tiles.popitem(last=False)
            self._size -= tile.nbytes
        return found

    def _has(self, key: K, fetch: Callable[[K], Tensor | None]) -> bool:
        """Whether a tile is remembered, or is now because it could be fetched."""
        if key not in self._tiles and (tile := fetch(key)) is not None:
            self._remember(key, tile)
        return key in self._tiles

    def _remember(self, key: Hashable, tile: Tensor) -> None:
        if key not in self._tiles:
            self._size += tile.nbytes
        self._tiles[key] = tile
        self._tiles.move_to_end(key)
