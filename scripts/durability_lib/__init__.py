"""What scripts/durability is made of.

main       the command line, and the course of a run
rows       what is measured
brokers    brokers that keep what they acknowledge, and how one is killed and started again
client     the load: sessions, publishers, pairs
disk       what the bare disk takes, and what files take of it
report     figures, targets, and the report
"""
