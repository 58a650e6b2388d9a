"""Speed, accuracy and memory: the asv suite (``make bench``), and what writes the performance page.

Nothing in the suite names a loss: a new one is measured as soon as it is registered. Beside it stand programs, each of
which explains itself with ``--help``: ``peers`` (other libraries, side by side), ``targets`` (the speed that was
promised), ``growth`` (sizes, threads, layouts, memory), ``performance`` (all three, for the documentation), ``check``
(has anything become slower, larger or less accurate?), ``history`` (all that was recorded, as a page) and ``contract``
(accuracy, for the documentation). What is the same in other libraries is compared by ``calls`` (for the documentation),
``denominators`` (what means divide by) and ``samples`` (torch's own inputs); ``picture`` draws the README's.
"""

#: Keeps BLAS, OpenMP and XLA to one thread. They read it when they are imported, hence this, which imports nothing.
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}
