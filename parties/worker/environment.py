"""What every confined process finds in its environment: nothing of its party's, and one thread for each library."""

from __future__ import annotations

import os

ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    # Sessions share the cores, and a process with several threads could not be forked.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "ARROW_NUM_THREADS": "1",
    # Its own allocator would reserve a gigabyte of the address space, which is bounded in evaluators and preparers.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
