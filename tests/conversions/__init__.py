"""How exact `from_pandapower` is: every network of pandapower, solved on both sides."""

import os

# Before numpy is imported: several threads of BLAS on small matrices only disturb each other.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
