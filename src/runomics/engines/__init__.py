"""Engines: the warm launcher, the run process it forks, the gateway client in it, the languages; and the server's handle on them."""
