"""The kernels in Triton: one step's elements, and the draw of masks.

Dimensions: T time, B batch, H hidden, G gates; N products of a step (see
:mod:`tidegate.train.kernels.cuda.products`). A pointer is to the part of its
tensor that belongs to the step; None: there is no such mask.
"""
