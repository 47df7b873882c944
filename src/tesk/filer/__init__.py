"""Moves what a plan says between URLs and scratch."""

from tesk.filer.inward import make_directories, open_directories, stage_in
from tesk.filer.outward import stage_out
from tesk.filer.results import Delivered, StageOut, TransferError

__all__ = ["Delivered", "StageOut", "TransferError", "make_directories", "open_directories", "stage_in", "stage_out"]
