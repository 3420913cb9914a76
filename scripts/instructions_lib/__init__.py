"""The instructions of the way of a message: the parts of `scripts/instructions`.

| file       | what it owns                                     |
|------------|--------------------------------------------------|
| `main`     | the command line                                 |
| `counting` | the build, and the cases under callgrind         |
| `stated`   | perf/instructions.toml, and a run beside it      |
| `tests`    | what holds of the comparison                     |
"""
