"""Functions that are called with arguments alike many times, run as the straight line of calls that they come down to.

Between the calls of NumPy that a step of a small network is, the library looks at shapes, chooses between kernels, goes
through layers and looks parameters up: as much time again as the arithmetic, for the same answers each time. `Traced`
runs a function once more under observation: what depends on the arguments' numbers is written down, line by line, as a
program; what does not is worked out there and then; and whatever was found to be so, of shapes, memory orders,
attributes, the truth of a condition, is asked again at the program's beginning or where it was asked. Where an answer
differs, the program ends without having changed anything, and the function itself is called.

So the kernels stay as they are read, with their choices and checks, and nobody writes anything down twice; what is
computed is the same, bit for bit, for the calls of NumPy are the same, in the same order.
"""

from gradwise.tracing.traced import Traced, whole

__all__ = ["Traced", "whole"]
