"""The command line: thin commands over boto3, the server's files and its `/-/` endpoints. Runs in the user's process."""
