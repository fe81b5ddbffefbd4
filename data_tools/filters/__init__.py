"""Filters of a pairs folder, one file each; start at `run.py`.

| file               | what it examines                        | needs                        |
|--------------------|-----------------------------------------|------------------------------|
| quality.py         | one row: its texts and image headers    | nothing                      |
| decontamination.py | one row against the benchmarks          | pairs folders of benchmarks  |
| difficulty.py      | one row's critiques by the teacher      | critique files               |
| similarity.py      | all rows: near-duplicates               | signatures (minhash.py)      |

A row is dropped for the first reason that applies, in this order.
"""
