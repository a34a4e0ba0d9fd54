"""Pure functions on arrays: where speed is won. No classes, no state.

Images are logically (N, C, H, W); the fastest order for them in memory is batch innermost, (C, H, W, N), so that every
window copy and every pooling step runs over contiguous rows of W * N numbers. Functions accept any memory order and
return batch innermost; some convolutions by rows, (H, C, W, N), which those behind them take as it is.
"""

import numpy as np

# glibc returns freed blocks above its mmap threshold to the system, and the next step faults them in again, page by
# page. Freeing one 31 MB block raises the threshold (it follows the largest freed block, up to 32 MB), after which
# freed memory is reused: a training step of a small convolution network went from 2923 to 697 us. Nothing is touched
# here, so nothing is spent; where the C library is another, nothing happens.
np.empty(31 << 20, np.uint8)
# NumPy asks Linux for huge pages behind arrays of 4 MB and more. Two blocks side by side leave 35 MB of address space
# marked so, from which the memory of smaller arrays comes too: (1024 x 16) @ (16 x 1024) went from 1060 to 410 us, and
# a training step of a network of such products from 7900 to 3500. The C library writes down sizes between the two, and
# Linux makes a huge page of 2 MB of that page sooner or later; so the first is small, and all that train fill it. With
# two of 30 MB networks of up to 120 MB take as long.
_blocks = [np.empty(size << 20, np.uint8) for size in (4, 31)]
del _blocks

# NumPy's elementwise functions copy operands through a buffer where several of their contiguous rows would fit into it,
# 8192 numbers by default: the maximum of two columns of pooling windows, rows of 2304, takes 8.7 us so, and 4.5 with
# this (`np.setbufsize`). The benchmarks' network D at batch 16: 361 -> 314 us; 2048 and 512 give the same.
BUFFER = 1024
