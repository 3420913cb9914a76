"""RingMQ beside other brokers: the parts of `scripts/compare`.

| file       | what it owns                                                        |
|------------|---------------------------------------------------------------------|
| main       | the course of a comparison, from the command line to the report     |
| options    | the command line                                                    |
| rows       | what is measured: the runs of the load generator, and their figures |
| brokers    | how each broker is started, and what it cannot do                   |
| install    | getting brokers from the registries, at pinned versions             |
| processes  | child processes, none of which outlives this one                    |
| generator  | one run of `ringmq bench`                                           |
| schedule   | the order of the runs, the progress line, the time that is left     |
| machine    | what the machine is                                                 |
| summary    | medians and spreads of what was measured                            |
| markdown   | the report for people                                               |
| plot       | bars as SVG                                                         |
"""
