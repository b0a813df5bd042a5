"""CWL by cwltool: reading a definition, running it with tasks handed to the service, and saying what a definition declares."""
