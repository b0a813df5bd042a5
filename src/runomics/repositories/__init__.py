"""Where definitions come from that lie in version control: one way each to fetch a commit. Worker threads of the server."""
