"""A long run under a changing load: the parts of `scripts/soak`.

| file      | what it owns                                                        |
|-----------|---------------------------------------------------------------------|
| `main`    | the command line, and the course of a run                           |
| `broker`  | the process under test: started, killed, measured                   |
| `packets` | MQTT 5 on the wire, as much of it as the load needs                 |
| `client`  | a client that keeps its promises over every connection of a session |
| `ledger`  | what was acknowledged, what arrived, and what does not agree        |
| `load`    | who the clients are and what each does                              |
| `verdict` | what is judged of the samples                                       |
| `plot`    | the picture                                                         |
| `tests`   | what holds of ledger, verdict and packets                           |
"""
