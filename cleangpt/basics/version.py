"""The version, in its one place."""

VERSION = "0.9.0"
