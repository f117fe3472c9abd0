"""Kineto and Chrome traces, recorded by the agent or elsewhere: read into columns, and analysed."""
