"""The version, in its one place."""

VERSION = "1.0.0"
