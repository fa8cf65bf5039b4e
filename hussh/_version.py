"""The version of hussh: the build, `hussh.__version__` and the command line read it here.

The build reads the text of this module without running it, so it has one assignment and no import.
"""

__version__ = "0.4.0.dev0"
