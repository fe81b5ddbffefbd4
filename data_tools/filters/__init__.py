"""Filters of a pairs folder, one file each; `run.py` puts them together.

| file               | what it looks at                        | needs                        |
|--------------------|-----------------------------------------|------------------------------|
| quality.py         | one row: its texts and picture headers  | nothing                      |
| decontamination.py | one row against the benchmarks          | pairs folders of benchmarks  |
| difficulty.py      | one row's critiques by the teacher      | critique files               |
| similarity.py      | all rows: near-duplicates               | signatures (minhash.py)      |

A row leaves for the first reason it meets, in this order.
"""
