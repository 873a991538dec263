"""Measurements of ssmrec against plain torch, implicit and RecBole. Run with `python -m benchmarks`."""

import ssmrec  # noqa: F401  before torch and numba: it says how their idle threads wait
