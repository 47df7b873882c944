"""The demo's data: FASTQ files made from a seed, and what is true of them, computed here in Python."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Chunk", "break_record", "make_chunks", "table"]

_SHORTEST, _LONGEST = 75, 151
_WORST, _BEST = 2, 41  # Phred qualities of a common sequencer
_OFFSET = 33


@dataclass(frozen=True, slots=True)
class Chunk:
    """One FASTQ file and its sums: reads, bases, bases that are G or C, all qualities added up."""

    name: str
    path: Path
    reads: int
    bases: int
    gc: int
    quality: int


def make_chunks(directory: Path, seed: int, count: int, reads: int) -> list[Chunk]:
    """Write `count` files of `reads` reads each into `directory`; the same seed gives the same bytes."""
    return [
        _make_chunk(directory, f"chunk-{number}", random.Random(f"{seed}/{number}"), number, reads)
        for number in range(count)
    ]


def _make_chunk(directory: Path, name: str, rng: random.Random, number: int, reads: int) -> Chunk:
    gc_share = 0.35 + 0.04 * (number % 8)  # so that no two chunks look alike
    bases = bytes((b"GC" if one < 256 * gc_share else b"AT")[one % 2] for one in range(256))
    qualities = bytes(_OFFSET + _WORST + one % (_BEST - _WORST + 1) for one in range(256))
    path = directory / f"{name}.fastq"
    total = gc = quality = 0
    with path.open("wb") as file:
        for read in range(reads):
            length = rng.randint(_SHORTEST, _LONGEST)
            sequence = rng.randbytes(length).translate(bases)
            scores = rng.randbytes(length).translate(qualities)
            file.write(b"@%s.%d\n%s\n+\n%s\n" % (name.encode(), read + 1, sequence, scores))
            total += length
            gc += sequence.count(b"G") + sequence.count(b"C")
            quality += sum(scores) - _OFFSET * length
    return Chunk(name, path, reads, total, gc, quality)


def break_record(chunk: Chunk, path: Path, record: int) -> None:
    """Write the file of `chunk` to `path` with the qualities of one record (from 1) cut short."""
    lines = chunk.path.read_bytes().split(b"\n")
    at = 4 * record - 1
    lines[at] = lines[at][:-10]
    path.write_bytes(b"\n".join(lines))


def table(chunks: list[Chunk]) -> str:
    """The table that the demo's tasks must deliver, byte for byte."""
    sums = [[one.reads, one.bases, one.gc, one.quality] for one in chunks]
    sums.append([sum(column) for column in zip(*sums, strict=True)])
    names = [*(one.name for one in chunks), "total"]
    lines = ["sample\treads\tbases\tgc\tquality"]
    for name, (reads, bases, gc, quality) in zip(names, sums, strict=True):
        lines.append(f"{name}\t{reads}\t{bases}\t{gc / bases:.4f}\t{quality / bases:.2f}")
    return "\n".join(lines) + "\n"
