"""The peers of the benchmarks: a library each, every one in a process of its own.

A module has a function for every case that its library has. All return a dictionary:

seconds          wall-clock time of the work alone, from data in host memory to results in host memory
compile_seconds  how much of `seconds` was compilation, where the library compiles and says so
memory           what the work took of it, by `timing.watched`
quality          numbers that say how good the result is, by one yardstick for all peers, taken off the clock
work             {"flops", "bytes"} that the case asks for, by `work.py`, the same for all peers

A first call imports, compiles and starts threads; the calls that follow are the steady ones. `finetune` alone
starts from nothing in every call, as its user does. Besides, each module has `open_data(folder)`, called
once before all else, and `settings()`, what its times depend on.
"""
