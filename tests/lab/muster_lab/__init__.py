"""The laboratory of Muster: real systemd machines on one host. The entry point is ../lab, the story is in ../README.md."""
