"""Where task attempts run, seen from the server: one file for each way. Only `app` names a runner; the core knows ports.TaskRunner."""
