"""One thread for torch: small models gain nothing from more, and tests share their machine."""

import torch

torch.set_num_threads(1)
