"""How long the package takes, in whole and in parts, beside a bare solver: no test asserts time.

``python -m tests.benchmarks`` prints the table of docs/benchmarks.md.
"""

import os

# Before numpy is imported: several threads of BLAS on small matrices only disturb each other.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
