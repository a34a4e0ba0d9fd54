"""Benchmarks: gradwise beside its peers, each in a process of its own, interleaved round by round."""
