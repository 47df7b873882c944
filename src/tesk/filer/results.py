"""What a stage-in or stage-out tells the one who asked for it."""

from __future__ import annotations

from dataclasses import dataclass

from tesk.plan.model import Delivery, Transfer
from tesk.storage.errors import shown

__all__ = ["Delivered", "StageOut", "TransferError", "sentence"]

_MOST_SENTENCES = 20


@dataclass(frozen=True, slots=True)
class Delivered:
    """One file that was delivered: where it lies now, where it lay in the container, its size in bytes."""

    url: str
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StageOut:
    """What became of a plan's outputs, as sentences for the user where it went wrong.

    `missing`: outputs that are not there; whether that fails the task is the site's choice. `failed`: outputs
    that are there and could not be delivered whole. `notes`: what was left out on purpose. `directories`: paths of
    outputs that turned out to be directories, where the task did not say. `copied`: bytes of those delivered that did
    not lie in their place already.
    """

    delivered: tuple[Delivered, ...] = ()
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    copied: int = 0


def sentence(what: str, one: Transfer | Delivery, cause: str) -> str:
    """What went wrong with an input or output, by the name that the client gave it, if any."""
    name = f"'{shown(one.name)}' ({shown(one.path)})" if one.name else shown(one.path)
    return f"{what} {name}: {cause}"


class TransferError(Exception):
    """Inputs that could not be brought into scratch; `sentences` has one for each fault."""

    def __init__(self, sentences: tuple[str, ...]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


def bounded(sentences: list[str]) -> tuple[str, ...]:
    """The first of `sentences` and how many more there are: a directory may fail file by file."""
    if len(sentences) <= _MOST_SENTENCES:
        return tuple(sentences)
    return (*sentences[:_MOST_SENTENCES], f"and {len(sentences) - _MOST_SENTENCES} more of this kind")
