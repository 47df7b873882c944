"""What need not be moved: inputs and outputs in shared storage, which executors see where they lie.

One rule (docs/shared-storage.md): an input's file or directory is mounted at its path, read only; of an output in
shared storage the directory that holds it is mounted to be written in, if the last part of URL and path is the same.
What such a directory shows by itself is not mounted again. What cannot be seen so without hiding or changing what
others have is moved, as if the storage were a remote one. Pure text: nothing is opened or looked up here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tesk.plan.model import Delivery, Place, SharedMount, Transfer
from tesk.plan.paths import nearest, parent, upwards, within
from tesk.plan.site import Site
from tesk.plan.urls import place_of
from tesk.tes.wildcards import fixed_directory, has_wildcards

__all__ = ["Sharing", "share"]


@dataclass(frozen=True, slots=True)
class Sharing:
    """`inputs` and the outputs that are `in_place` are not moved; `mounts` show them, in the order of their paths.

    `writable` are the directories among them where executors may write, none within another.
    """

    mounts: tuple[SharedMount, ...] = ()
    inputs: tuple[Transfer, ...] = ()
    in_place: frozenset[Delivery] = frozenset()
    writable: Mapping[str, Place] = field(default_factory=dict)

    def around(self, path: str) -> str | None:
        """The writable directory that `path` lies in, or is."""
        return nearest(path, self.writable) if self.writable else None


def share(
    inputs: Sequence[Transfer],
    outputs: Sequence[Delivery],
    written: Collection[str],
    avoid: Collection[str],
    site: Site,
) -> Sharing:
    """What `site` shares of a task with these inputs and outputs.

    Args:
        written: further paths that executors write to or below: volumes, redirects of stdout and stderr.
        avoid: directories that nothing may be mounted over.
    """
    if not site.shared:
        return Sharing()
    places = {one: place for one in inputs if one.content is None and (place := place_of(one.url or "", site))}
    homes = {one: home for one in outputs if (home := _home(one, site))}
    writable = _writable(inputs, places, homes.values(), avoid)
    in_place = [one for one, (path, place) in homes.items() if _seen(path, writable) == place]
    written = {*written, *(one.path for one in outputs)}
    shown = _shown(inputs, places, writable, written)
    seen = {**writable, **shown}
    shared = [one for one in inputs if one in places and _seen(one.path, seen) == places[one]]
    mounts = [SharedMount(path, place) for path, place in writable.items()]
    kinds = {one.path: one.type for one in shared}
    mounts += [SharedMount(path, place, kinds[path], read_only=True) for path, place in shown.items()]
    return Sharing(
        tuple(sorted(mounts, key=lambda one: one.path)),
        tuple(shared),
        frozenset(in_place),
        writable,
    )


def _home(output: Delivery, site: Site) -> tuple[str, Place] | None:
    """The directory to be mounted so that `output` is written in place, and what is seen there; None: none will do.

    For one file in it the root of a storage is not laid open.
    """
    place = place_of(output.url, site)
    if place is None:
        return None
    if has_wildcards(output.path):
        fixed, prefix = fixed_directory(output.path), output.path_prefix or ""
        return (fixed, _below(place, posixpath.relpath(fixed, prefix))) if within(fixed, prefix) else None
    if output.type == "DIRECTORY":
        return output.path, place
    above, _, name = place.path.rpartition("/")
    if not above or name != posixpath.basename(output.path):
        return None
    return parent(output.path), Place(place.storage, above)


def _writable(
    inputs: Sequence[Transfer],
    places: Mapping[Transfer, Place],
    homes: Iterable[tuple[str, Place]],
    avoid: Collection[str],
) -> dict[str, Place]:
    """The outermost directories that are mounted to be written in. Where outputs disagree, the first one decides."""
    wanted: dict[str, Place] = {}
    for path, place in homes:
        if path not in avoid:
            wanted.setdefault(path, place)
    directories = {one.path for one in inputs if one.type == "DIRECTORY"}
    shown = {one.path: places[one] for one in places if one.type == "DIRECTORY"}
    for path in list(wanted):
        # what is brought into a directory that is above, or the same, would be hidden
        above = [up for up in upwards(path) if up in directories]
        if any(up not in shown or _seen(path, {up: shown[up]}) != wanted[path] for up in above):
            del wanted[path]
    return {path: place for path, place in wanted.items() if not any(up in wanted for up in upwards(parent(path)))}


def _shown(
    inputs: Sequence[Transfer],
    places: Mapping[Transfer, Place],
    writable: Mapping[str, Place],
    written: Collection[str],
) -> dict[str, Place]:
    """What is mounted read only, by path: each input that no other mount shows, as far as that hides nothing."""
    moved = {one.path for one in inputs if one not in places and one.type == "DIRECTORY"}
    moved |= _hiding(inputs, places, writable, written)
    seen = dict(writable)
    for one in sorted(places, key=lambda one: (one.type == "FILE", one.path.count("/"))):
        if one.path in seen or _seen(one.path, seen) == places[one]:
            continue
        if any(up in moved for up in upwards(one.path)) or (one.type == "FILE" and one.path in written):
            continue
        seen[one.path] = places[one]
    return {path: place for path, place in seen.items() if path not in writable}


def _hiding(
    inputs: Sequence[Transfer],
    places: Mapping[Transfer, Place],
    writable: Mapping[str, Place],
    written: Collection[str],
) -> set[str]:
    """The directories among the inputs whose mounts would stand in the way of what others bring or write there."""
    directories = {one.path: places[one] for one in places if one.type == "DIRECTORY"}
    found: set[str] = set()
    if not directories:
        return found
    others = [(one.path, places.get(one)) for one in inputs]
    for path, place in [*others, *writable.items()]:
        above = (up for up in upwards(path) if up in directories)
        found.update(up for up in above if _seen(path, {up: directories[up]}) != place)
    for path in written:
        around = nearest(path, writable)
        above = (up for up in upwards(path) if up in directories)
        found.update(up for up in above if around is None or not within(around, up))
    return found


def _seen(path: str, mounts: Mapping[str, Place]) -> Place | None:
    """What the innermost of `mounts` shows at `path`."""
    up = nearest(path, mounts)
    return None if up is None else _below(mounts[up], path[len(up) :].strip("/"))


def _below(place: Place, relative: str) -> Place:
    return Place(place.storage, "/".join(one for one in (place.path, relative) if one not in ("", ".")))
