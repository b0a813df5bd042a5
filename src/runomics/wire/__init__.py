"""The edge of the service: AWS's protocols as data. Knows no operation by name and nothing of ours; runs in the server process."""
