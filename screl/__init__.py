"""SFT -> group sampling -> rejection filter -> RFT -> scores, for verifiable problems.

One folder per stage; README has the map. ``core``, ``grading``, ``samples``, ``rejection`` and
``scoring`` never import torch or transformers.
"""

import os

# GNU's OpenMP, which torch brings along, reads this when it is loaded, so it must be set before
# torch is imported. Its idle threads otherwise spin for milliseconds before they sleep, which takes
# the cores from other processes: on 2 cores beside another process, training was 2.5 times slower.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
