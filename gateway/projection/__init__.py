"""What the journal says, as SQL tables beside it: for reports, never for decisions.

``tables`` has the tables, ``rows`` makes their rows from the machine and the blocks, ``database`` keeps them with a
watermark, and ``keeper`` does so beside a running node. All of it can be thrown away and made again.
"""
