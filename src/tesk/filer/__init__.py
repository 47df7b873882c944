"""Moves what a plan says between URLs and scratch."""

from tesk.filer.inward import make_directories, open_directories, stage_in
from tesk.filer.outward import stage_out
from tesk.filer.results import Delivered, StageOut, TransferError
from tesk.filer.shared import leave_shared, prepare_shared, view_of

__all__ = [
    "Delivered",
    "StageOut",
    "TransferError",
    "leave_shared",
    "make_directories",
    "open_directories",
    "prepare_shared",
    "stage_in",
    "stage_out",
    "view_of",
]
