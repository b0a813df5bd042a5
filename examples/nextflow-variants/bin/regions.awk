#!/usr/bin/awk -f
# Cuts every sequence of a FASTA index into as many spans as asked for.
{
    for (i = 0; i < regions; i++) printf "%s:%d-%d\n", $1, int($2 * i / regions) + 1, int($2 * (i + 1) / regions)
}
