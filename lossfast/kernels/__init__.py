"""The compiled kernels: C arithmetic on blocks, one build for each instruction set, driven by Cython without the GIL.

`lossfast.backends.compiled` is what uses them. Other Cython code may cimport `lossfast.kernels.rowwise` and
`lossfast.kernels.pointwise`; their ``.pxd`` files say what is offered.
"""
