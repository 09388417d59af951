"""Training on CUDA devices: Triton for what is element by element, cuBLAS for the products."""
