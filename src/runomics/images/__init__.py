"""Images of containers: what a name means today, its layers on this host, and what may go again. Runs in the server process."""
